"""What a file is that is no `.pose`, by its first bytes: other tools' poses, videos, texts; and what to do with it."""

import re

_HEAD = 4096
_VIDEO_TOOL = "extract its poses with pose-format's `video_to_pose`"
_DWPOSE = "DWPose results ({}); `signer convert IN OUT.pose --fps N --size HxW` makes a .pose of a file or a folder"
_NUMBER = rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_SKELS = re.compile(rb"\s*" + _NUMBER + rb"(?:[ \t]+" + _NUMBER + rb"){9}")


def recognise(data: bytes) -> str:
    """What the bytes are and what to do with them, "" where they are nothing that is known."""
    head = data[:_HEAD]
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith((b"PK\x03\x04", b"\x93NUMPY")):
        named = b"person_" in data or b"num_persons" in data or b"keypoints" in data
        kind = "npz" if head.startswith(b"PK") else "npy"
        return _DWPOSE.format(kind) if named else f"numpy's .{kind}; give a .pose file"
    if start.startswith((b"{", b"[")):
        if b"pose_keypoints_2d" in data:
            return (
                "OpenPose's JSON of one frame; `signer convert FOLDER OUT.pose --fps N` makes one .pose of the whole "
                "folder"
            )
        return _DWPOSE.format("json") if b"body_keypoints" in data else "JSON; give a .pose file"
    if _SKELS.match(head):
        return (
            "numbers as text, such as Progressive Transformers' .skels; `signer convert IN.skels FOLDER --fps N` makes "
            "a .pose of each sequence"
        )
    if head[4:8] == b"ftyp" or head.startswith(b"\x1a\x45\xdf\xa3") or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return f"a video; compare videos with `signer score video`, or {_VIDEO_TOOL}"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        return "a picture; give a .pose file"
    if head.startswith(b"version https://git-lfs"):
        return "the pointer of Git LFS to a file that was not downloaded; run `git lfs pull`"
    if start.startswith((b"<!DOCTYPE", b"<html", b"<?xml")):
        return "a web page, as a download that went wrong leaves; download the file again"
    return "text; compare texts with `signer score text`" if start and _is_text(head) else ""


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)

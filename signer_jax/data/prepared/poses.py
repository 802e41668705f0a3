"""An item's ready poses, whatever their format: the pose of the person that is taken, its unit, and what was said."""

from signer_jax import outside
from signer_jax.data.datasets.item import Item
from signer_jax.errors import SignerError
from signer_jax.pose.formats import dwpose, openpose_json, pose_file, skels
from signer_jax.pose.formats.clip import Clip

_DWPOSE = tuple(f".{kind}" for kind in dwpose.KINDS)


def says_rate(item: Item) -> bool:
    """Whether the item's poses say their frame rate themselves."""
    return item.pose is not None and item.pose.suffix.lower() == ".pose"


def read(item: Item, fps: float | None, of: int = 0) -> Clip:
    """The item's poses; `fps` for a format that does not say it, `of` frames of its video, 0 where it has none.

    Without a video the dataset's rate takes the place of a `.pose` file's. Raises `SignerError` as the format's reader.
    """
    path = item.pose
    assert path is not None
    ending = path.suffix.lower()
    if outside.is_folder(path):
        openpose = any(entry.name.endswith(openpose_json.ENDING) for entry in path.iterdir())
        return openpose_json.read(path, fps, of) if openpose else dwpose.read(path, fps)
    if ending == ".pose":
        return pose_file.read_clip(path, None if of else item.fps)
    if ending == ".skels":
        return skels.read_line(path, item.line or 0, fps)
    if path.name.endswith(openpose_json.ENDING):
        return openpose_json.read(path, fps)
    if ending in _DWPOSE:
        return dwpose.read(path, fps)
    raise SignerError(f"{path}: no poses are known by this ending; give .pose, .skels, {', '.join(_DWPOSE)}")

"""A bucket (`gs://BUCKET/FOLDER`, of sets and what is only read `s3://…` too), and how a folder of ours lies in it.

The files of a folder that takes an older one's place lie in a hidden folder in it, which its manifest there names
(`at`): the older ones stay until that is written.
"""

import errno
import importlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from signer_jax.errors import SignerError, Trouble
from signer_jax.outside import reason_of, told

MANIFEST = "manifest.json"  # of a folder of ours: the last of its files that is written
AT = "at"  # of a manifest in the bucket: the hidden folder, "" for the folder itself
HIDDEN = re.compile(r"(?<![^/])\.[0-9a-f]{32}/")
_FORM = re.compile(r"(gs|s3)://[a-z0-9][a-z0-9._-]{2,}(/[^/?#*\[\]\\]+)+/*")
# What speaks to buckets of a scheme, how it is installed, and how one logs in.
_KINDS = {
    "gs": ("gcsfs", "gcs", "gcloud auth application-default login"),
    "s3": ("s3fs", "s3", "aws configure; AWS_ENDPOINT_URL for a server of your own"),
}
_HERE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)  # of this machine's disk


def is_url(path: str | Path) -> bool:
    """Whether it names a place in a bucket that a run may lie in."""
    return str(path).strip().startswith("gs://")


def in_bucket(path: str | Path) -> bool:
    """Whether it names a place in a bucket that a prepared set may lie in, and what is only read."""
    return scheme(path) in _KINDS


def scheme(path: str | Path) -> str:
    return str(path).strip().partition("://")[0]


def named(url: str, name: str) -> str:
    """The URL of an object by the name that `store` gives it, in the same kind of bucket."""
    return f"{scheme(url)}://{name}"


def checked(path: str | Path, what: str) -> str:
    url = str(path).strip().rstrip("/")
    if not _FORM.fullmatch(url) or {".", ".."} & set(url.split("/")):
        raise SignerError(f"{what} {path}: is no place in a bucket; give {scheme(path)}://BUCKET/FOLDER".strip())
    return url


def cache_folder() -> Path:
    return Path(os.path.abspath(os.environ.get("SIGNER_CACHE") or Path.home() / ".cache" / "signer_jax"))


def store(url: str = "gs://") -> Any:
    """What speaks to the buckets of a URL's kind."""
    return _store(scheme(url))


@cache
def _store(kind: str) -> Any:
    """It keeps no listings, nor does epath's: others write there too."""
    library, extra, _ = _KINDS[kind]
    try:
        importlib.import_module(library)  # which fsspec finds by its name
        import fsspec
    except ImportError:
        raise SignerError(f"{kind}://: {library} is not installed; pip install 'signer-jax[{extra}]'") from None
    protocol = "gcs" if kind == "gs" else kind
    fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False
    return fsspec.filesystem(protocol)


@contextmanager
def reaching(url: Any) -> Iterator[None]:
    """Around what asks the bucket: it raises many kinds of errors, few of them the system's. For a path nothing."""
    if not in_bucket(url):
        yield
        return
    try:
        yield
    except (SignerError, FileExistsError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _HERE:
            raise told(
                error, f"{url}: cannot be copied to this machine ({reason_of(error)}); check {cache_folder()}"
            ) from None
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise Trouble(
            f"{url}: the bucket cannot be reached ({said}); check its name, your rights there "
            f"({_KINDS[scheme(url)][2]}) and the network"
        ) from None


def tag_of(about: Mapping[str, Any]) -> str:
    """What tells one object of a name from the next: of Google's its generation, of S3's a sum of its bytes."""
    return str(about["generation"] if "generation" in about else about["ETag"].strip('"'))


def bytes_of(url: str, start: int, end: int, tag: str) -> bytes | None:
    """A range of the object that has this tag (`tag_of`); None where the name is another one's by now."""
    files = store(url)
    with reaching(url):
        try:
            if scheme(url) == "gs":
                asked = {"Range": f"bytes={start}-{end - 1}"}
                return files.call("GET", files.url(url), headers=asked, ifGenerationMatch=tag)[1]
            from fsspec.asyn import sync

            bucket, key, _ = files.split_path(url)
            asked = {"Range": f"bytes={start}-{end - 1}", "IfMatch": f'"{tag}"'}
            return sync(files.loop, files.call_s3("get_object", Bucket=bucket, Key=key, **asked)["Body"].read)
        except Exception as error:
            if _is_another(error):
                return None
            raise


def _is_another(error: Exception) -> bool:
    """Whether a bucket says that a condition on an object does not hold (HTTP's 412)."""
    said = getattr(error.__cause__, "response", None)  # of S3's library
    code = said["ResponseMetadata"]["HTTPStatusCode"] if isinstance(said, dict) else getattr(error, "code", None)
    return isinstance(error, FileExistsError) or code == 412


def sizes(folder: Any) -> dict[Any, int]:
    """The files of a folder, at any depth, and their bytes: of one here, or of a path of `checkpoints`."""
    if not is_url(folder):
        return {file: file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    with reaching(folder):
        found = store().find(str(folder), detail=True)
    return {type(folder)(f"gs://{name}"): about["size"] for name, about in sorted(found.items())}


def holding(folder: Any, name: str) -> list[Any]:
    """The folders in a folder of the bucket that hold a file of this name."""
    with reaching(str(folder)):
        return [folder / file.split("/")[-2] for file in store().glob(f"{folder}/*/{name}")]


# ---- A folder of ours ------------------------------------------------------------------------------------------------


def look(url: str, what: str) -> dict[str, dict[str, Any]]:
    """What the bucket says of the files that a URL names, by their names there: of itself by "", or of those in it.

    A folder of ours is looked through to its hidden one. Raises `SignerError` where nothing is there.
    """
    url = checked(url, what)
    with reaching(url):
        lies = _lies(url)
        found = store(url).find(lies, detail=True).items()
        found = {named(url, name).removeprefix(lies): about for name, about in found}
        files = {
            name.lstrip("/"): about for name, about in found.items()
            if ".." not in name.split("/") and not name.endswith("/")
        }  # fmt: skip
        files = _plain(files, url)
    if not files:
        raise SignerError(f"{what} {url}: nothing is there; give what is in the bucket")
    return files


def _lies(url: str) -> str:
    """Where in the bucket it lies what is in a folder of ours, of a run: in the folder itself or its hidden one."""
    bucket, *parts = url.removeprefix(f"{scheme(url)}://").split("/")
    for k in range(len(parts) - 1, 1, -1):
        folder, inside = "/".join((f"{scheme(url)}:/", bucket, *parts[:k])), "/".join(parts[k:])
        with suppress(OSError):  # there is no manifest, or somebody's rights end below it
            at = parted(store(url).cat_file(f"{folder}/{MANIFEST}"))[1]
            if at and not inside.startswith(at):
                return f"{folder}/{at}{inside}"
    return url


def _plain(files: Mapping[str, dict[str, Any]], url: str) -> dict[str, dict[str, Any]]:
    """The files by the names that folders of ours have for them; what is left there of an older folder is none."""
    ours = {}  # folder -> its hidden one
    for name in files:
        folder = name[: found.start()] if (found := HIDDEN.search(name)) else None
        if folder is not None and folder not in ours and folder + MANIFEST in files:
            ours[folder] = folder + parted(store(url).cat_file(files[folder + MANIFEST]["name"]))[1]
    plain = {}
    for name, about in files.items():
        folder = next((one for one in ours if name.startswith(one)), None)
        if folder is None or name == folder + MANIFEST:
            plain[name] = about
        elif name.startswith(ours[folder]) and not HIDDEN.match(inside := name.removeprefix(ours[folder])):
            plain[folder + inside] = about
    return plain


def is_manifest(name: str) -> bool:
    return name.rpartition("/")[2] == MANIFEST


def parted(data: bytes) -> tuple[bytes, str]:
    """A manifest of the bucket as its writer had it, and the hidden folder that it names."""
    try:
        manifest = json.loads(data)
        at = manifest.pop(AT)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return data, ""
    return (as_json(manifest), at) if isinstance(at, str) and HIDDEN.fullmatch(at) else (data, "")


def as_json(manifest: dict) -> bytes:
    return (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()


def listed(manifest: bytes) -> set[str]:
    try:
        return set(json.loads(manifest)["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()

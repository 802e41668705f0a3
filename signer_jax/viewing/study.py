"""A study of which of two videos is better (`signer study --videos`): a blind page, and the key that it does not hold.

DIR/page/study.html        for the raters: the pairs by numbers that say nothing, in an order of each rater's own
DIR/page/videos/0001.mp4   only where the videos are too large for the page to hold
DIR/key.json               which number is whose: not for the raters
"""

import base64
import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

from signer_jax import outside, report, storage
from signer_jax.data import video
from signer_jax.errors import SignerError, one_line, piled
from signer_jax.progress import progress
from signer_jax.viewing import beside

KIND = "study"
KEY = "key.json"
ENDINGS = (".mp4", ".mov", ".webm", ".mkv", ".avi")
MOST_PAIRS, MOST_SYSTEMS = 5_000, 50
HELD = 64_000_000  # bytes of videos that the page holds; more lie beside it
_SHOWN_AFTER = 2.0  # seconds, after which a bar shows how many videos have been read
_LONGEST = 500  # characters of a question, of a name


@dataclass(frozen=True)
class Trial:
    """A pair to judge: the numbers of two videos of one clip."""

    name: str
    left: str
    right: str


@dataclass(frozen=True)
class Video:
    system: str
    clip: str


@dataclass(frozen=True)
class Key:
    """What is in `key.json`."""

    study: str
    question: str
    seed: int
    systems: Sequence[str]
    videos: Mapping[str, Video]  # by number
    trials: Sequence[Trial]


def files_of(folders: Sequence[str]) -> dict[str, dict[str, Path]]:
    """The videos of each system by clip. A system is a folder, `FOLDER` or `NAME=FOLDER`, a clip a file's name without
    its ending.
    """
    systems: dict[str, dict[str, Path]] = {}
    for given in folders:
        name, equals, rest = given.partition("=")
        if not equals or Path(given).is_dir():
            name, rest = Path(given).resolve().name, given
        if not Path(rest).is_dir():
            raise SignerError(f"--videos {given}: is no folder; give one folder of videos for each system")
        if not name or len(name) > _LONGEST or piled(name):
            raise SignerError(f"--videos {given}: has no name for a table; give NAME=FOLDER")
        if name in systems:
            raise SignerError(f"--videos {given}: a system named {name!r} is there already; give NAME=FOLDER")
        systems[name] = {}
        for file in sorted(Path(rest).iterdir()):
            if file.suffix.lower() not in ENDINGS:
                continue
            if file.stem in systems[name]:
                raise SignerError(f"{file}: {systems[name][file.stem].name} is the same clip; remove one")
            systems[name][file.stem] = outside.plain_file(file, "give a folder of videos")
    if not 2 <= len(systems) <= MOST_SYSTEMS:
        raise SignerError(f"--videos: gives {len(systems)} systems; give the folders of 2 to {MOST_SYSTEMS}")
    return systems


def common_clips(systems: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """The clips that all systems have. Raises `SignerError` for none."""
    common = sorted(set.intersection(*(set(files) for files in systems.values())))
    if not common:
        counts = ", ".join(f"{name} {len(files)}" for name, files in systems.items())
        raise SignerError(f"--videos: no clip is in all folders ({counts} videos); give files of one clip one name")
    return common


def chosen(systems: Sequence[str], clips: Sequence[str], count: int, rng: random.Random) -> list[tuple[str, str, str]]:
    """So many (clip, system, system), or all there are: each pair of systems as often as every other, but for one, on
    the clips that are there least often so far; in a random order, each system on either side.
    """
    pairs = list(combinations(systems, 2))
    rng.shuffle(pairs)
    used: Counter[str] = Counter()
    left = {pair: list(clips) for pair in pairs}
    found = []
    for number in range(min(count, len(pairs) * len(clips))):
        pair = pairs[number % len(pairs)]
        least = min(used[clip] for clip in left[pair])
        clip = rng.choice([clip for clip in left[pair] if used[clip] == least])
        left[pair].remove(clip)
        used[clip] += 1
        found.append((clip, *(pair if rng.random() < 0.5 else pair[::-1])))
    rng.shuffle(found)
    return found


def make(directory: Path, folders: Sequence[str], *, pairs: int | None, seed: int, question: str) -> list[str]:
    """Writes the folder of a study, whole or not at all; returns what there is to say of it, a line each.

    Raises `SignerError` for what cannot be compared, and where a study is there already, whose votes nobody could read
    without its key.
    """
    if len(question) > _LONGEST or not question.strip() or piled(question):
        raise SignerError(f"--question: is no question of at most {_LONGEST} characters")
    if storage.kind_of(directory):
        raise SignerError(f"{directory}: holds a {storage.kind_of(directory)} already; choose another folder")
    systems = files_of(folders)
    clips = common_clips(systems)
    said = [f"{len(clips)} clips that all {len(systems)} systems have"]
    if others := sorted(set().union(*systems.values()) - set(clips)):
        said.append(f"left out {len(others)} clips that not all have, the first: {others[0]}")
    every = len(clips) * len(list(combinations(systems, 2)))
    count = min(pairs or every, every)
    if count > MOST_PAIRS:
        raise SignerError(f"--videos: make {count} pairs, {MOST_PAIRS} at most; give --pairs N")
    rng = random.Random(seed)
    asked = chosen(list(systems), clips, count, rng)
    shown = sorted({(system, clip) for clip, *two in asked for system in two})
    rng.shuffle(shown)
    numbers = {each: f"{number:04d}" for number, each in enumerate(shown, start=1)}
    trials = [Trial(f"t{number:04d}", numbers[a, clip], numbers[b, clip])
              for number, (clip, a, b) in enumerate(asked, start=1)]  # fmt: skip
    said += _looks(systems, shown)

    digest = hashlib.sha256(repr((question, seed, list(systems), asked)).encode("utf-8", "backslashreplace"))
    with storage.new_folder(directory, KIND) as partial:
        videos = partial / "page" / "videos"
        videos.mkdir(parents=True)
        for (system, clip), number in progress(numbers.items(), "videos", delay=_SHOWN_AFTER):
            data = video.for_browsers(systems[system][clip])
            digest.update(hashlib.sha256(data).digest())
            (videos / f"{number}.mp4").write_bytes(data)
        study = digest.hexdigest()[:16]
        key = Key(study, question, seed, list(systems), {numbers[one]: Video(*one) for one in shown}, trials)
        storage.write_list(partial / KEY, asdict(key), str(directory), "give fewer --pairs")
        whole = sum(file.stat().st_size for file in videos.iterdir()) <= HELD
        _write_page(partial / "page" / "study.html", key, videos, whole)
        if whole:
            shutil.rmtree(videos)
    said.append(f"{len(trials)} pairs of {len(shown)} videos, {'in the page' if whole else 'beside the page'}")
    return said


def _looks(systems: Mapping[str, Mapping[str, Path]], shown: Sequence[tuple[str, str]]) -> list[str]:
    """By what a rater may know a system, whatever it is called."""
    sizes: dict[str, set[str]] = {name: set() for name in systems}
    for system, clip in shown:
        found = video.facts(systems[system][clip])
        sizes[system].add(f"{found.width}x{found.height} at {found.fps:.4g}")
    if len({frozenset(size) for size in sizes.values()}) == 1:
        return []
    each = "; ".join(f"{name} {', '.join(sorted(size)[:3])}" for name, size in sizes.items())
    return [f"raters may know a system by its size or frame rate: {each}"]


def _write_page(path: Path, key: Key, videos: Path, whole: bool) -> None:
    def source(number: str) -> str:
        if not whole:
            return f"videos/{number}.mp4"
        return f"data:video/mp4;base64,{base64.b64encode((videos / f'{number}.mp4').read_bytes()).decode('ascii')}"

    data = {
        "study": key.study, "question": one_line(key.question), "trials": [asdict(trial) for trial in key.trials],
        "videos": {number: source(number) for number in sorted(key.videos)},
    }  # fmt: skip
    page = report.page(
        "Which is better?", beside("study.html"), style=beside("controls.css") + beside("study.css"),
        script=beside("study.js"), data=data, media="data:" if whole else "'self' file:",
    )  # fmt: skip
    storage.write_file(path, page)

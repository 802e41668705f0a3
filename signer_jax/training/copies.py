"""Training windows that are encoded several times, once as they are and else changed at random (`data.augmentation`).

The stages that train the renderer read latents, which are encoded once. So what they see changed is encoded beside what
is not: copy k of motion m is a motion of its own, k times as many records further, whose video, pose and candidates are
changed by one draw. A copy's signer is one of its own too, so that its reference pictures, all changed in side and
colours as it is, come from its own bank; turn, size and place are drawn for each motion. A copy keeps its speed. Clips
that name no signer are dealt among several such signers of a copy (`Copies.looks`), each with a side and colours.

By mirroring alone a window has two versions, so of the two copies that there are then (`validation`) one is mirrored
throughout, and what may not be mirrored has no video there: it would be encoded twice.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cached_property, lru_cache

import numpy as np

from signer_jax.data import augmentation
from signer_jax.data.records import Corpus, Records
from signer_jax.data.windows import MotionWindows
from signer_jax.pose.skeleton import JOINTS
from signer_jax.renderer.latents import COPY
from signer_jax.settings import Augment
from signer_jax.types import Pose, Sample

_SPLIT = "train"
_VERSION = 2  # of what a draw gives
_DEALT = "by sets"  # how clips without a signer are dealt, where they are
# Of the clips of a set without a signer a copy has at most so many looks, and for two or more each has so many clips.
_LOOKS, _OF_A_LOOK = 16, 8
_ALL = augmentation.mirror_permutation(JOINTS)


class Copies(Corpus):
    """A corpus whose training motions come `augment.copies` times; all else is as it is there."""

    def __init__(self, corpus: Corpus, augment: Augment, seed: int):
        self.plain, self.directory, self.about = corpus, corpus.directory, corpus.about
        self._augment, self._seed = augment, seed
        self.greys: dict[int, np.float32] = {}  # of whole changed videos, as far as they were looked at

    def change(self, index: int) -> augmentation.Change | None:
        """What happens to a training motion; None of one that is as it is."""
        copy, motion = divmod(index, len(self._listed))
        if not copy:
            return None
        drawn = augmentation.drawn(np.random.default_rng((self._seed, copy, motion)), self._augment)
        looks = self._looks(copy, self._signers[motion])
        mirrored = (looks.mirrored or self._by_side) and self._may_mirror(motion)
        return drawn._replace(speed=1.0, mirrored=mirrored, colours=looks.colours)

    def _looks(self, copy: int, signer: str) -> augmentation.Change:
        """The change of which side and colours are a signer's, in all motions."""
        name = int.from_bytes(hashlib.sha256(signer.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        return augmentation.drawn(np.random.default_rng((self._seed, copy, name)), self._augment)

    @cached_property
    def looks(self) -> int:
        """In how many sides and sets of colours a copy has the clips that name no signer."""
        clips = zip(self._listed, self._signers, strict=True)
        return len({look for (_, video, signer), look in clips if video and not named(signer)})

    @cached_property
    def _signers(self) -> list[str]:
        """Of each motion. What shares a bank of references, the clips of one set with a video that may all be mirrored
        or all not, is dealt in order, so that each of them has others beside it.
        """
        found = [signer for *_, signer in self._listed]
        if self._by_side:  # there is one look
            return found
        banks: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for motion, (_, video, signer) in enumerate(self._listed):
            if video and not named(signer):
                banks[signer][self._may_mirror(motion)].append(motion)
        for signer, sides in banks.items():
            looks = [max(min(len(motions) // _OF_A_LOOK, _LOOKS), 1) for motions in sides]
            if max(looks) > 1:
                for motions, several in zip(sides, looks, strict=True):
                    for place, motion in enumerate(motions):
                        found[motion] = f"{signer}?{place % several}"
        return found

    @property
    def _by_side(self) -> bool:
        """Whether mirroring is all that tells copies apart."""
        return self._augment.mirrors_alone

    def _may_mirror(self, motion: int) -> bool:
        return not self._augment.not_mirrored or motion not in _never_mirrored(self.plain, self._augment)

    @cached_property
    def _listed(self) -> list[tuple[int, bool, str]]:
        return self.plain.listed(_SPLIT)

    def windows(self, windows: MotionWindows) -> MotionWindows:
        """Windows of the motions as they are -> of all copies."""
        return _Windows(windows, self)

    # ---- What a corpus says ---------------------------------------------------------------------------------------
    def hash(self) -> str:
        dealt = [_DEALT] if self._signers != [signer for *_, signer in self._listed] else []
        said = [self.plain.hash(), asdict(self._augment), self._seed, _VERSION, *dealt]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def sizes_of(self, split: str) -> list[tuple[int, int]]:
        return self.plain.sizes_of(split) * self._times(split)

    def texts(self, split: str) -> Records:
        return self.plain.texts(split)

    def motions(self, split: str) -> Records:
        motions = self.plain.motions(split)
        return _Motions(motions, self) if split == _SPLIT else motions

    def captions(self, split: str) -> Iterator[str]:
        return (text for _ in range(self._times(split)) for text in self.plain.captions(split))

    def glosses(self, split: str) -> Iterator[tuple[str, ...]]:
        return (glosses for _ in range(self._times(split)) for glosses in self.plain.glosses(split))

    def signs(self, split: str) -> Records:
        return self.plain.signs(split)

    def listed(self, split: str) -> list[tuple[int, bool, str]]:
        return self._copied if split == _SPLIT else self.plain.listed(split)

    @cached_property
    def _copied(self) -> list[tuple[int, bool, str]]:
        found = list(self._listed)
        for copy in range(1, self._augment.copies):
            signers = self._signers
            mirrored = {signer: self._looks(copy, signer).mirrored for signer in set(signers)}
            for motion, ((frames, video, _), signer) in enumerate(zip(self._listed, signers, strict=True)):
                alike = self._by_side and not self._may_mirror(motion)
                # What may not be mirrored has no pictures of what is.
                other = mirrored[signer] and not self._by_side and not self._may_mirror(motion)
                found.append((frames, video and not alike, f"{signer}{COPY}{copy}{'n' * other}"))
        return found

    def makers(self, split: str) -> list[str]:
        return self.plain.makers(split)

    def set_of(self, split: str, kind: str) -> np.ndarray:
        return np.tile(self.plain.set_of(split, kind), self._times(split) if kind == "motion" else 1)

    def _times(self, split: str) -> int:
        return self._augment.copies if split == _SPLIT else 1


def named(signer: str) -> bool:
    """Whether a clip names its signer; of several sets theirs stands before."""
    return bool(signer.rpartition("/")[2])


@lru_cache(maxsize=1)
def _never_mirrored(corpus: Corpus, augment: Augment) -> frozenset[int]:
    """The training motions with a gloss of `augment.not_mirrored`."""
    glosses = enumerate(corpus.glosses(_SPLIT))
    return frozenset(i for i, some in glosses if not augmentation.may_mirror(some, augment))


class _Motions(Records):
    """The motions of all copies."""

    def __init__(self, motions: Records, of: Copies):
        self._motions, self._of = motions, of

    def __len__(self) -> int:
        return len(self._of.listed(_SPLIT))

    def __getitem__(self, index) -> Sample:
        return self._changed(self._motions[int(index) % len(self._motions)], int(index))

    def posed(self, sample: Sample, index: int) -> Pose:
        return self._motions.posed(sample, index % len(self._motions))

    def filmed(self, index: int) -> tuple[Sample, np.ndarray]:
        sample, video = self._motions.filmed(index % len(self._motions))
        change = self._of.change(index)
        if change is not None:
            video = augmentation.on_pictures(video, change)
        return replace(self._changed(sample, index), video=video), video

    def frames_at(self, index: int, places_of: Callable[[int], np.ndarray]) -> np.ndarray:
        """As of the motion, changed; the grey that colours are changed around is the whole video's, which is read for
        it once.
        """
        change, motion, greys = self._of.change(index), index % len(self._motions), self._of.greys
        if change is None or not augmentation.recoloured(change) or index in greys:
            video = self._motions.frames_at(motion, places_of)
            if change is not None:
                video = augmentation.moved(video, change)
        else:
            whole = augmentation.moved(self._motions.video(motion), change)
            greys[index], video = augmentation.grey(whole), whole[places_of(len(whole))]
        if change is None or not augmentation.recoloured(change):
            return video
        return augmentation.coloured(video, change.colours, greys[index])

    def _changed(self, sample: Sample, index: int) -> Sample:
        change, pose = self._of.change(index), sample.pose
        if change is None or pose is None:
            return sample
        return replace(
            sample,
            pose=Pose(*augmentation.on_points(pose.coordinates, pose.confidence, change, _ALL), pose.fps),
        )

    def close(self) -> None:
        self._motions.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._motions!r}, {self._of.hash()[:16]})"


class _Windows(MotionWindows):
    """Windows of all copies: truth and candidates alike are changed."""

    def __init__(self, windows: MotionWindows, of: Copies):
        vars(self).update(vars(windows))
        self._plain, self._of = windows, of
        self._mirror = augmentation.mirror_permutation([JOINTS[joint] for joint in windows.joints])

    def window(self, index: int, start: int, length: int) -> dict[str, np.ndarray]:
        window = self._plain.window(index % len(self._plain.records), start, length)
        change = self._of.change(index)
        return window if change is None else augmentation.on_window(window, change, length, self._mirror)

"""What the sign-to-text model learns from: poses of the training split with their sentences, people's performances all.

A sentence that another split has is left out, whoever signs it and however it is written, so that no sentence on which
something is judged has been read before.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from signer_jax.back_translation.model import DIMS
from signer_jax.data import streams
from signer_jax.data.builtin import grammar
from signer_jax.data.glossing import MACHINES
from signer_jax.data.records import Corpus
from signer_jax.data.windows import pad
from signer_jax.pose import skeleton
from signer_jax.pose.skeleton import on_joints
from signer_jax.slul.tokenizer import Tokenizer, normalise, spaced
from signer_jax.types import Pose, Sample
from signer_jax.writing import han_apart, runs_of

TRAINED_ON = "train"


def sentence_of(text: str, corpus: str) -> str:
    """What of a text is signed, in lower case, punctuation and Han characters as words of their own; of the built-in
    corpus without punctuation and without the prompt that asks for it, which nobody signs.
    """
    if corpus != "builtin":
        return han_apart(spaced(normalise(text)))
    cores = [grammar.unwrap(text, language) for language in grammar.TABLES]
    return next((core for core, prompt in cores if prompt is not None), cores[0][0])


def key_of(sentence: str) -> str:
    """What sentences are compared by: a hash of their words, without case and punctuation. "" for no word."""
    words = " ".join(run.key for run in runs_of(sentence))
    return hashlib.sha256(words.encode("utf-8", "backslashreplace")).hexdigest()[:16] if words else ""


def held_out(corpus: Corpus) -> set[str]:
    """The keys of all sentences of the other splits, whether somebody signs them there or not."""
    found: set[str] = set()
    for split in corpus.about["counts"]:
        if split != TRAINED_ON:
            records, name = corpus.texts(split), corpus.about["corpus"]
            texts = (records[i].text for i in range(len(records)))
            found |= {key_of(sentence_of(text, name)) for some in (texts, corpus.captions(split)) for text in some}
    return found


@dataclass(frozen=True)
class Chosen:
    """Which motions of the training split are learned from, and of how many others what is to be said."""

    places: tuple[int, ...]
    sentences: tuple[str, ...]  # of each
    held_out: int  # whose sentence another split has
    too_long: int

    def told(self, most: int) -> list[str]:
        lines = []
        if self.held_out:
            lines.append(
                f"{self.held_out} training poses are left out, since another split has their sentence (compared "
                "without case and punctuation)"
            )
        if self.too_long:
            lines.append(
                f"{self.too_long} training poses are left out, since they are longer than "
                f"config.back_translation.max_frames = {most}"
            )
        return lines


def choose(corpus: Corpus, most: int) -> Chosen:
    """The training motions with a sentence and at most so many frames, whose sentence no other split has."""
    if not corpus.count(TRAINED_ON, "pose"):
        return Chosen((), (), 0, 0)
    others, listed = held_out(corpus), corpus.listed(TRAINED_ON)
    kept, shared, long = [], 0, 0
    for place, text in enumerate(corpus.captions(TRAINED_ON)):
        sentence = sentence_of(text, corpus.about["corpus"])
        if not (key := key_of(sentence)):
            continue
        shared += key in others
        long += key not in others and listed[place][0] > most
        if key not in others and listed[place][0] <= most:
            kept.append((place, sentence))
    places, sentences = zip(*kept, strict=True) if kept else ((), ())
    return Chosen(places, sentences, shared, long)


def by_people(sample: Sample) -> tuple[str, ...]:
    """A sample's glosses where a person wrote them: what a program made of the text is no truth."""
    return () if sample.glosses_by in MACHINES else tuple(unicodedata.normalize("NFC", one) for one in sample.glosses)


def glosses_of(corpus: Corpus) -> list[str]:
    """All glosses that people wrote in the training split, of all its languages."""
    records = corpus.texts(TRAINED_ON)
    return sorted({gloss for i in range(len(records)) for gloss in by_people(records[i])})


def shown(poses: Sequence[Pose], joints: str, frames: int) -> dict[str, np.ndarray]:
    """`coordinates [b t j c]`, `confidence [b t j]` and `valid [b t]` of poses on all joints, cut or padded."""
    subset = skeleton.subset(joints)
    coordinates = np.zeros((len(poses), frames, len(subset), DIMS), np.float32)
    confidence = np.zeros(coordinates.shape[:3], np.float32)
    for row, pose in enumerate(poses):
        pose = on_joints(pose.slice(0, frames), subset, DIMS)
        coordinates[row, : len(pose)], confidence[row, : len(pose)] = pose.coordinates, pose.confidence
    lengths = np.array([min(len(pose), frames) for pose in poses])
    return {
        "coordinates": coordinates, "confidence": confidence, "valid": np.arange(frames) < lengths[:, None],
    }  # fmt: skip


@dataclass(frozen=True)
class Coding:
    """How an example becomes arrays."""

    tokenizer: Tokenizer
    glosses: dict[str, int]  # a gloss's class
    languages: dict[str, int]
    joints: str
    frames: int
    pieces: int  # of a text
    most_glosses: int

    def example(self, pose: Pose, sentence: str, glosses: Sequence[str], language: str) -> dict[str, Any]:
        """The arrays of one, as `batches` gives many; without glosses where one is unknown, or there are more than
        `most_glosses`.
        """
        classes = [self.glosses.get(gloss, 0) for gloss in glosses]
        classes = classes if all(classes) and len(classes) <= self.most_glosses else []
        return {
            **{name: rows[0] for name, rows in shown([pose], self.joints, self.frames).items()},
            "target": self.tokenizer.gloss_target(sentence.split(), self.pieces)[0],
            "classes": pad(classes, self.most_glosses),
            "language": np.array(self.language(language), np.int32),
        }

    def language(self, name: str) -> int:
        return self.languages.get(name, self.languages[""])


def batches(corpus: Corpus, chosen: Chosen, coding: Coding, reading: streams.Reading) -> grain.DatasetIterator:
    """Endless batches of the chosen motions, as whole as they were performed."""
    records = corpus.motions(TRAINED_ON)

    def transform(k: int, rng: np.random.Generator) -> dict[str, Any]:
        sample = records[chosen.places[k]]
        pose = records.posed(sample, chosen.places[k])
        return coding.example(pose, chosen.sentences[k], by_people(sample), sample.language)

    return streams.iterate(range(len(chosen.places)), transform, reading, "poses with a sentence")

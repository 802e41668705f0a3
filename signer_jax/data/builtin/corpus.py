"""The built-in corpus: sentences with their glosses, and their performances as poses and videos. Deterministic.

A sentence belongs to one split for good: a stable hash of its words (without prompt and punctuation, in whatever
language) decides, so a sentence and the prompts that ask for it never part. `RESERVED` belongs to none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from zlib import crc32

import numpy as np
from jaxtyping import Int

from signer_jax.data.builtin import avatar, templates
from signer_jax.data.builtin.avatar import APPEARANCES
from signer_jax.data.builtin.grammar import Parse, parse, unwrap
from signer_jax.data.builtin.performance import sign_glosses
from signer_jax.data.builtin.signers import SIGNERS, Signer, signer_of
from signer_jax.data.builtin.situation import Leaning, draw_situation, leaning
from signer_jax.data.builtin.vocabulary import LANGUAGES, LETTERS, Item, vocabulary
from signer_jax.errors import SignerError, closest
from signer_jax.types import Pose, Sample

__all__ = ["APPEARANCES", "FPS", "GUEST", "LANGUAGES", "RESERVED", "SIGNERS", "SPLITS", "Sentence", "Signer",
           "draw_signer", "glosses_of", "guests", "perform", "read", "samples", "sentences", "split_of"]  # fmt: skip

SPLITS = {"train": range(80), "dev": range(80, 90), "test": range(90, 100)}  # of the hash modulo 100
RESERVED = ("i carried it",)  # kept for trying out what no split has seen
FPS = 16.0  # frames a second where nothing else is asked for
GUEST, _GUEST_LOOK = "guest", "olive"  # who no training sample shows
_PROMPTED, _SINGLE = 0.4, 0.1  # shares of the sentences that stand in a prompt, and of words asked for by themselves


@dataclass(frozen=True)
class Sentence:
    """A text or prompt with its glosses. `question` is "", "yes-no" or "wh"; `core` the text without its prompt.

    `leaning` is what the text says of its situation, and so of who signs it.
    """

    text: str
    language: str
    glosses: tuple[str, ...]
    leaning: Leaning
    question: str
    core: str


def _sentence(text: str, language: str, found: Parse) -> Sentence:
    leans = leaning(found.words, found.glosses, found.question, found.prompt)
    return Sentence(text, language, found.glosses, leans, found.question, found.core)


def read(text: str, language: str) -> Sentence:
    """Any text or prompt, glossed by the corpus's grammar. Raises `SignerError` for no words or another language."""
    return _sentence(text, language, parse(text, language))


def glosses_of(language: str) -> tuple[str, ...]:
    """All glosses of a language, the 26 letters last."""
    return (*vocabulary(language).glosses, *LETTERS)


def split_of(core: str) -> str:
    """The split of a sentence without prompt and punctuation; "" for the reserved ones."""
    if core in RESERVED:
        return ""
    place = crc32(core.encode()) % 100
    return next(name for name, share in SPLITS.items() if place in share)


def sentences(split: str, count: int, seed: int) -> list[Sentence]:
    """`count` distinct sentences of a split, alternating between the languages.

    Each is built around one item of the vocabulary, in turn, so that all come up about equally often: about 400
    sentences hold every gloss. Raises `SignerError` for an unknown split or more sentences than there are.
    """
    if split not in SPLITS:
        raise SignerError(f"split {split!r}: unknown{closest(split, SPLITS)}; one of {', '.join(SPLITS)}")
    rng = Random(f"{split} {seed}")
    languages = list(LANGUAGES)
    turns = {language: _turns(language, rng) for language in languages}
    found: list[Sentence] = []
    seen: set[tuple[str, str]] = set()
    failures = 0
    while len(found) < count:
        language = languages[len(found) % len(languages)]
        focus, kinds = next(turns[language])
        if (fresh := _fresh(language, focus, kinds, split, rng, seen)) is not None:
            failures = 0
            found.append(fresh)
            seen.add((fresh.text, language))
        elif (failures := failures + 1) > len(templates.focuses(language)):  # no item has a fresh sentence left
            raise SignerError(
                f"builtin corpus: it has no {count} distinct {split} sentences; ask for {len(found)} or less"
            )
    return found


def _fresh(
    language: str, focus: object, kinds: tuple[str, ...], split: str, rng: Random, seen: set[tuple[str, str]]
) -> Sentence | None:
    """A sentence of the split about `focus` that is not among `seen`, or None after many attempts."""
    wanted = templates.sought(language, focus)
    for _ in range(200):
        single = isinstance(focus, Item) and rng.random() < _SINGLE
        text = str(focus) if single else templates.clause(language, focus, kinds, rng)
        if split_of(unwrap(text, language)[0]) != split:
            continue
        if rng.random() < _PROMPTED or (single and rng.random() < 0.7):
            text = templates.wrap(text, language, rng)
        if (text, language) in seen:
            continue
        result = parse(text, language)
        if wanted <= set(result.glosses):
            return _sentence(text, language, result)
    return None


def _turns(language: str, rng: Random) -> Iterator[tuple[object, tuple[str, ...]]]:
    while True:
        order = list(templates.focuses(language))
        rng.shuffle(order)
        yield from order


def draw_signer(sentence: Sentence, rng: Random) -> str:
    """Who signs a sentence: the signer of the generation and register that its text suggests, each with some chance."""
    return signer_of(*draw_situation(sentence.leaning, rng)).name


def perform(
    sentence: Sentence, signer: str, seed: int, fps: float = FPS, *, variation: float = 0.02, jitter: float = 0.006
) -> tuple[Pose, Int[np.ndarray, "n 2"]]:
    """`signer` signs the sentence: the pose, and each gloss's first and past-the-last frame.

    `variation` (shoulder widths) makes performances of other seeds differ in place, timing and amplitude; `jitter` is
    detection-like noise on each joint and frame: with 0 and the same seed, the true motion behind the noisy pose.
    """
    return sign_glosses(
        sentence.glosses, sentence.language, signer, seed, fps=fps, question=sentence.question, variation=variation,
        jitter=jitter,
    )  # fmt: skip


def samples(
    split: str, *, sentences: int, poses: int, videos: int, seed: int, size: tuple[int, int], fps: float = FPS,
    variation: float = 0.02, jitter: float = 0.006,
) -> Iterator[Sample]:  # fmt: skip
    """The samples of a split: the first `poses` have a pose and spans, the first `videos` of these a video as well.

    A video shows the true motion, its pose the noisy one. In dev and test, `references` are performances of the same
    glosses by the other signers. Raises `SignerError` as `sentences` does.
    """
    makers = _make_sentences(split, sentences, seed)
    for i, sentence in enumerate(makers):
        signer = draw_signer(sentence, Random(f"{split} {seed} {i} signer"))
        pose = spans = video = None
        references: list[tuple[Pose, np.ndarray]] = []
        if i < poses:
            own = crc32(f"{split} {seed} {i}".encode())
            pose, spans = perform(sentence, signer, own, fps, variation=variation, jitter=jitter)
            if i < videos:
                true, _ = perform(sentence, signer, own, fps, variation=variation, jitter=0.0)
                video = avatar.render(true.coordinates, SIGNERS[signer].appearance, size)
            if split != "train":
                for k, other in enumerate(name for name in SIGNERS if name != signer):
                    references.append(perform(sentence, other, own + k + 1, fps, variation=variation, jitter=jitter))
        yield Sample(
            name=f"{split}_{i:05d}", text=sentence.text, language=sentence.language, glosses=sentence.glosses,
            signer=signer, pose=pose, spans=spans, video=video, references=tuple(references),
        )  # fmt: skip


def guests(
    split: str, *, count: int, seed: int, size: tuple[int, int], fps: float = FPS, variation: float = 0.02,
    jitter: float = 0.006,
) -> Iterator[Sample]:  # fmt: skip
    """`count` videos of a signer whose look no training sample has, with poses and without text or spans.

    A renderer is tried on them: all that it can know of the look is the reference picture. The motion is a known
    signer's. Raises `SignerError` as `sentences` does.
    """
    for i, sentence in enumerate(sentences(split, count, seed + 1)):
        own = crc32(f"{split} {seed} guest {i}".encode())
        body = list(SIGNERS)[i % len(SIGNERS)]
        pose, _ = perform(sentence, body, own, fps, variation=variation, jitter=jitter)
        true, _ = perform(sentence, body, own, fps, variation=variation, jitter=0.0)
        video = avatar.render(true.coordinates, _GUEST_LOOK, size)
        yield Sample(f"{split}_guest_{i:02d}", "", sentence.language, (), GUEST, pose=pose, video=video)


_make_sentences = sentences  # `samples` has an argument of that name

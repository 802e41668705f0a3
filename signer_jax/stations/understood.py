"""What was understood of texts, sentence by sentence, and what is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from signer_jax.errors import SignerError
from signer_jax.stations.spelled_names import is_letter
from signer_jax.stations.unknown_words import negates

DOUBT = 0.5  # a gloss of less probability is named (docs/performance.md: how often that is right)


@dataclass(frozen=True)
class Sentence:
    """What was read of one sentence, and what was made of it."""

    text: str
    language: str
    of: int  # which of the texts it belongs to
    read: str = ""  # what the model was given; "" where it would have had nothing to go by
    carried: tuple[tuple[int, str], ...] = ()  # (known words before it, the gloss that spells it)
    nouns: tuple[str, ...] = ()  # of the carried ones, those that may be nouns as well as names
    unknown: tuple[str, ...] = ()  # left out
    first: tuple[str, ...] = ()  # of the unknown ones, those with a capital because a sentence begins with them
    guessed: tuple[str, ...] = ()  # unknown too, but left in the text of a published model
    pieced: tuple[str, ...] = ()  # unknown too, but read in the pieces of our own vocabulary
    known: int = 0  # words
    cut: str = ""  # how the text was cut to the model's length
    glosses: tuple[str, ...] = ()
    invented: tuple[str, ...] = ()  # names that the model spelled and the text does not have, left out
    unfinished: bool = False  # the glosses were cut at the model's length
    repeated: tuple[str, ...] = ()  # glosses that the model said too often in a row: the rest of them is left out
    probabilities: tuple[tuple[str, float], ...] = ()  # of each gloss that the model said, after those before it
    end: float = 1.0  # probability that the glosses end where they do
    unsaid: tuple[tuple[str, str], ...] = ()  # words that were read without the gloss that they bring, and that gloss
    instead: tuple[str, str] | None = None  # a word, and its gloss, which stands there in place of the model's own

    @property
    def spelled(self) -> tuple[str, ...]:
        return tuple(gloss for _, gloss in self.carried)

    @property
    def unsure(self) -> tuple[tuple[str, float], ...]:
        """The glosses that the model holds for less likely than not, with their probabilities; of letters, those of the
        text are right and others are left out.
        """
        return tuple((gloss, p) for gloss, p in self.probabilities if p < DOUBT and not is_letter(gloss))

    @property
    def doubted(self) -> bool:
        """Whether a gloss, or that there are no more, is less likely than not; or the model found no end."""
        return bool(self.unsure or self.repeated) or self.unfinished or self.end < DOUBT

    @property
    def to_sign(self) -> bool:
        """Whether it has a known word, or what is surely a name."""
        return bool(self.known) or any(gloss not in self.nouns for gloss in self.spelled)


@dataclass(frozen=True)
class Understood:
    """Texts, understood. Row b of the arrays is `sentences[b]`; a text has as many rows as sentences."""

    H: Float[np.ndarray, "b s d"]
    mask: Bool[np.ndarray, "b s"]
    sentences: tuple[Sentence, ...]
    max_target: int = field(repr=False)

    def rows(self, text: int) -> list[int]:
        """The rows of a text, in its order."""
        return [b for b, sentence in enumerate(self.sentences) if sentence.of == text]

    def signed_rows(self, text: int) -> list[int]:
        """Those of them that have glosses to sign; the first one where none has."""
        return [b for b in self.rows(text) if self.sentences[b].glosses] or self.rows(text)[:1]

    @property
    def glosses(self) -> list[tuple[str, ...]]:
        """The glosses of each text."""
        found: list[list[str]] = [[] for _ in range(self.sentences[-1].of + 1)] if self.sentences else []
        for sentence in self.sentences:
            found[sentence.of].extend(sentence.glosses)
        return [tuple(glosses) for glosses in found]

    def unknown(self, text: int) -> list[str]:
        """The words of a text that were left out of the glosses."""
        return [word for b in self.rows(text) for word in self.sentences[b].unknown]

    def check(self, asked: str | None = None) -> None:
        """Raises `SignerError` for the first text of which nothing is known and in which no name can be spelled.

        `asked`: the language, where somebody chose it.
        """
        where = f" in {asked}" if asked else ""
        for text in range(self.sentences[-1].of + 1 if self.sentences else 0):
            part = [self.sentences[b] for b in self.rows(text)]
            if not any(sentence.to_sign for sentence in part):
                numbers = [word for word in self.unknown(text) if any(map(str.isdigit, word))]
                digits = f" (no signs for all digits of {listed(numbers)})" if numbers else ""
                raise SignerError(
                    f"{shortened(' '.join(sentence.text for sentence in part))}: this run knows no word of it to "
                    f"sign{where}, nor a name in it to spell{digits}; use words of the training texts"
                )

    def require_glosses(self, text: int) -> None:
        """Raises `SignerError`, with what became of its words, for a text of which no gloss came out."""
        if not self.glosses[text]:
            whole = " ".join(self.sentences[b].text for b in self.rows(text))
            raise SignerError(f"{shortened(whole)}: no gloss came out of it; {'; '.join(self.remarks(text))}")

    def remarks(self, text: int) -> list[str]:
        """What a reader of the glosses of a text must know, a line each."""
        part = [self.sentences[b] for b in self.rows(text)]
        lines = []
        unsaid = [word for sentence in part for word, _ in sentence.unsaid]
        if negations := [word for word in (*self.unknown(text), *unsaid) if negates(word)]:
            lines.append(f"WARNING: a negation was left out ({listed(negations)}): the glosses may say the opposite")
        if negations := [word for sentence in part for word in sentence.pieced if negates(word)]:
            lines.append(
                f"WARNING: a negation is read in pieces ({listed(negations)}): the glosses may say the opposite"
            )
        lines += [sentence.cut for sentence in part if sentence.cut]
        nouns = [gloss for sentence in part for gloss in sentence.nouns]
        if nouns:
            lines.append(f"not in the training texts, a noun or a name, spelled as a word: {listed(nouns)}")
        if spelled := [gloss for sentence in part for gloss in sentence.spelled if gloss not in nouns]:
            lines.append(f"not in the training texts, spelled, placed by the order of the words: {' '.join(spelled)}")
        if unknown := self.unknown(text):
            lines.append(f"not in the training texts, left out: {listed(unknown)}")
        if numbers := [word for word in unknown if any(map(str.isdigit, word))]:
            lines.append(f"no signs for all digits of {listed(numbers)}, so not spelled")
        if first := [word for sentence in part for word in sentence.first]:
            capitals = listed([word.upper() for word in first])
            lines.append(f"a sentence begins with {listed(first)}: if that is a name to spell, write {capitals}")
        if guessed := [word for sentence in part for word in sentence.guessed]:
            lines.append(f"not in the training texts, left to the published model: {listed(guessed)}")
        if pieced := [word for sentence in part for word in sentence.pieced]:
            lines.append(f"not in the training texts, read in pieces, so its glosses are a guess: {listed(pieced)}")
        for sentence in part:
            signed = ""
            if sentence.instead is not None:
                word, gloss = sentence.instead
                signed = f"; signed instead is what the training texts sign for {word}: {gloss}"
            empty = signed and not sentence.probabilities
            if empty or (sentence.known and len(sentence.glosses) == len(sentence.carried)):
                lines.append(f"the model gives no gloss for {shortened(sentence.read)}{signed}")
            elif sentence.unsaid:
                lost = listed([f"{word} ({gloss})" for word, gloss in sentence.unsaid])
                lines.append(f"the glosses lack what the training texts sign for {lost}, of {shortened(sentence.read)}")
            if sentence.invented:
                lines.append(f"spelled by the model, but not in the text, left out: {listed(sentence.invented)}")
            if sentence.repeated:
                said = f"{listed(sentence.repeated)} again and again, for {shortened(sentence.read)}"
                lines.append(f"the model says {said}: the repetitions were left out{signed}")
                signed = ""  # once is enough
            if sentence.unsure:
                least = dict(sorted(sentence.unsure, key=lambda one: -one[1]))
                named = listed([f"{gloss} ({least[gloss]:.0%})" for gloss, _ in sentence.unsure])
                lines.append(f"the model is unsure of {named}, for {shortened(sentence.read)}{signed}")
            elif sentence.end < DOUBT and sentence.glosses and not empty:
                said = f"{shortened(sentence.read)} are all ({sentence.end:.0%})"
                lines.append(f"the model is unsure whether its glosses for {said}{signed}")
            elif signed and not empty:
                own = listed([gloss for gloss, _ in sentence.probabilities])
                lines.append(f"the model gives {own} for {shortened(sentence.read)}{signed}")
            if sentence.unfinished:
                lines.append(f"the glosses of {shortened(sentence.text)} were cut at {self.max_target} tokens")
        return lines


def listed(words: Sequence[str], most: int = 12) -> str:
    """The words, each once; of many the first and how many more there are."""
    each = list(dict.fromkeys(words))
    return " ".join(each[:most]) + (f" and {len(each) - most} more" if len(each) > most else "")


def shortened(text: str, length: int = 40) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= length else text[: length - 1] + "…")

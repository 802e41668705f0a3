"""The first station: texts -> H and glosses (PAPER 2.2), and what became of every word that is not known.

A model answers whatever it is given, so what it is given and what it may say are kept to what it was taught:

- Only glosses that the training texts of the language have (and, where there is a prior, that it can perform) are said:
  `slul.constraint`.
- Short forms ("don't") are written out, so that their words are looked up (`data.short_forms`).
- A word that the training texts of the language do not have is taken out of the text, or read in pieces
  (`config.slul.unknown`). A name or a number
  (`unknown_words` tells what a capital letter says) is carried over, fingerspelled: "#ANNA", at the place among the
  glosses that it has among the known words. Other words are listed as unknown, a negation among them loudly.
- A text of nothing but articles and the like has nothing to sign (`unknown_words.ties`).
- Letters that spell no word of the text are a name that the model makes up: they are not said (`spelled_names`).
- A text is understood sentence by sentence, each as one row of everything below (`sentences`).
- What the model itself holds for less likely than not is said, but named (`understood.DOUBT`).
- No gloss is said more often in a row than twice, or than training has it (`repeats`); what is left out is told.
- A word that was read, and whose gloss is not there, is named (`meanings`); where no other one says anything (of what
  is asked for), its gloss is the answer.

Each sentence passes the encoder once.
"""

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.data.short_forms import written_out
from signer_jax.errors import SignerError
from signer_jax.pose.fingerspelling import spellings
from signer_jax.pose.spoken_languages import spoken_of
from signer_jax.progress import progress
from signer_jax.slul.constraint import Automaton, automaton, whole_glosses
from signer_jax.slul.decoding import beam_search
from signer_jax.slul.standard_beams import standard_beam_search
from signer_jax.slul.t5 import T5
from signer_jax.slul.tokenizer import EOS, Tokenizer
from signer_jax.stations.asked import asked, asked_alone
from signer_jax.stations.meanings import only_meaning, unsaid
from signer_jax.stations.repeats import beyond
from signer_jax.stations.sentences import pauses, sentences
from signer_jax.stations.spelled_names import is_letter, without_invented
from signer_jax.stations.taught import Taught
from signer_jax.stations.understood import Sentence, Understood, shortened
from signer_jax.stations.unknown_words import FIRST, NOUN_OR_NAME, OTHER, kinds, points, ties
from signer_jax.writing import Word, as_written, known_words, unspaced, words_of

_AT_THE_END = re.compile(r"[.,;:!?\s]*[.!?]\s*$")
SEARCHES = {"shared": beam_search, "standard": standard_beam_search}  # `config.slul.search`


@dataclass(frozen=True)
class Linker:
    """SLUL with what it was taught: the modules and values of this station. Make one with `Linker.of`."""

    t5: T5
    params: Any
    tokenizer: Tokenizer
    words: Mapping[str, Collection[str]]  # by language: the words of its training texts
    spoken: Mapping[str, str]  # by language: the spoken one beside it, as `spoken_languages.spoken_of` writes it
    languages: tuple[str, ...]  # in the order of the rules
    rules: Automaton
    max_source: int
    max_target: int
    search: Callable[..., tuple[Any, Any, Any]]
    beams: int
    length_penalty: float
    spells: Callable[[str, str], bool] | None  # whether a word can be spelled in a language; None: any can
    reads_unknown: bool  # a published model has read more than this corpus: unknown words stay in its text
    reads_pieces: bool  # so do those of whose letters a vocabulary of our own has all
    taught: Mapping[str, Taught]  # by language: what its training texts say of words and glosses
    sayable: Mapping[str, Collection[str]]  # by language: the glosses that the rules have

    @classmethod
    def of(
        cls, t5: T5, params: Any, tokenizer: Tokenizer, words: Mapping[str, Collection[str]],
        glosses: Mapping[str, Collection[str]], *, spoken: Mapping[str, str],
        max_source: int, max_target: int, search: str, beams: int, length_penalty: float,
        performs: Callable[[str, str], bool] | None, spells: Callable[[str, str], bool] | None, reads_unknown: bool,
        reads_pieces: bool, taught: Mapping[str, Taught],
    ) -> "Linker":  # fmt: skip
        """`glosses`: by language, those of the training texts; `performs(gloss, language)`: those that can be shown;
        `spoken`: by language, the name of the spoken language beside it.
        """
        sayable = {
            language: [gloss for gloss in known if performs is None or performs(gloss, language)]
            for language, known in glosses.items()
        }
        rules = automaton(sayable, tokenizer, t5.vocab_size)
        known = {language: known_words(some) for language, some in words.items()}
        return cls(
            t5, params, tokenizer, known, {language: spoken_of(name) for language, name in spoken.items()},
            tuple(sayable), rules, max_source, max_target, SEARCHES[search], beams, length_penalty, spells,
            reads_unknown, reads_pieces, taught, sayable,
        )  # fmt: skip

    def taught_of(self, language: str) -> Taught:
        return self.taught.get(language, Taught())

    @functools.cached_property
    def device_rules(self) -> Automaton:
        return jax.device_put(self.rules)


def understand(texts: Sequence[str], languages: Sequence[str], linker: Linker, *, batch: int = 64) -> Understood:
    """H and the best beam's glosses of every text; at most `batch` sentences go through the model at a time.

    A text without a known word has no glosses (`Understood.check` tells). Raises `SignerError` for a language that the
    training texts do not have.
    """
    return _understood(read_texts(texts, languages, linker, read_text), linker, batch)


def understand_rows(texts: Sequence[str], languages: Sequence[str], linker: Linker, *, batch: int = 64) -> Understood:
    """`understand`, but a text of several sentences in one piece where the model can read it at once: so training has
    the texts of a corpus, and so they are scored.
    """
    return _understood(read_texts(texts, languages, linker, read_row), linker, batch)


def _understood(parts: Sequence[Sentence], linker: Linker, batch: int) -> Understood:
    source, number = rows_of(parts, linker)

    def likeliest(_: int, source: Any, number: Any, H: Any) -> tuple[Any, Any]:
        beams, _, tokens = linker.search(
            linker.t5, linker.params, source, beams=linker.beams, max_length=linker.max_target,
            length_penalty=linker.length_penalty, H=H, rules=linker.device_rules, language=number,
        )  # fmt: skip
        return beams[:, 0], tokens[:, 0]

    H, (ids, log_probs) = in_batches(source, number, linker, likeliest, batch)
    done = [answered(part, row, p, k, linker) for part, row, p, k in zip(parts, ids, log_probs, number, strict=True)]
    return Understood(H, source != 0, tuple(done), linker.max_target)


def semantics(text: str, language: str, linker: Linker) -> tuple[Float[Any, "1 s d"], Bool[np.ndarray, "1 s"]]:
    """H of a text and its mask, without its glosses, in one piece as training has it; of one that is too long, of its
    first sentence; of none, nothing but rows that the mask bars.
    """
    source = np.zeros((1, linker.max_source), np.int32)
    if text:
        first = text if _fits(text, language, linker) else sentences_of(text, language, linker)[0]
        source[0] = source_of(read(first, language, 0, linker), linker)
    return encode(linker.t5, linker.params, source), source != 0


def source_of(part: Sentence, linker: Linker) -> Int[np.ndarray, "s"]:
    ids = linker.tokenizer.encode_source(part.read, part.language)
    return np.pad(np.array(ids, np.int32), (0, linker.max_source - len(ids)))


def rows_of(parts: Sequence[Sentence], linker: Linker) -> tuple[Int[np.ndarray, "b s"], Int[np.ndarray, "b"]]:
    """What the model is given of each sentence, and the number of its language."""
    source = np.stack([source_of(part, linker) for part in parts])
    return source, np.array([linker.languages.index(part.language) for part in parts], np.int32)


def in_batches(
    source: Int[np.ndarray, "b s"], number: Int[np.ndarray, "b"], linker: Linker,
    search: Callable[[int, Any, Any, Any], Sequence[Any]], batch: int,
) -> tuple[np.ndarray, list[np.ndarray]]:  # fmt: skip
    """H, each batch encoded once, and the arrays that `search(number of the batch, source, number, H)` makes of it."""
    states, made = [], []
    size = min(batch, 1 << (len(source) - 1).bit_length())  # powers of two: few shapes are compiled
    for k, i in enumerate(progress(range(0, len(source), size), "sentences read", shown=len(source) > size)):
        rows = np.minimum(np.arange(i, i + size), len(source) - 1)  # the last one fills the batch
        H = encode(linker.t5, linker.params, source[rows])
        states.append(np.asarray(H)[: len(source) - i])
        made.append([np.asarray(one)[: len(source) - i] for one in search(k, source[rows], number[rows], H)])
    return np.concatenate(states), [np.concatenate(each) for each in zip(*made, strict=True)]


@functools.partial(jax.jit, static_argnames="t5")
def encode(t5: T5, params: dict, source: Int[Any, "b s"]) -> Any:
    """H `[b, s, d]`."""
    return t5.apply({"params": params}, source, method=T5.encode)


# ---- Before the model ------------------------------------------------------------------------------------------------


def sentences_of(text: str, language: str, linker: Linker) -> list[str]:
    """The sentences of a text; one that the model cannot read at once in its parts at ; and ellipses."""
    found = sentences(text, linker.spoken.get(language, ""), linker.words.get(language, ()))
    parts = [part for one in found for part in ([one] if _fits(one, language, linker) else pauses(one))]
    return parts or [text]


def _fits(text: str, language: str, linker: Linker) -> bool:
    longest, _ = written_out(text, linker.spoken.get(language, ""), linker.words.get(language, ()))
    return len(linker.tokenizer.encode_source(longest, language)) <= linker.max_source


def read_texts(
    texts: Sequence[str], languages: Sequence[str], linker: Linker,
    reading: Callable[[str, str, int, Linker], list[Sentence]],
) -> list[Sentence]:  # fmt: skip
    """The sentences of every text, by `read_text` or `read_row`. Raises `SignerError` for a language that the training
    texts do not have.
    """
    parts: list[Sentence] = []
    for i, (text, language) in enumerate(zip(texts, languages, strict=True)):
        if language not in linker.words or language not in linker.languages:
            raise SignerError(f"language {language}: this run has no training text in it, so it reads none")
        parts += reading(text, language, i, linker)
    return parts


def read_text(text: str, language: str, of: int, linker: Linker) -> list[Sentence]:
    """The sentences of a text, read; a word that is a name in one of them is a name where another begins with it."""
    parts = [read(sentence, language, of, linker) for sentence in sentences_of(text, language, linker)]
    names = frozenset(gloss for part in parts for gloss in part.spelled)
    return [read(part.text, language, of, linker, names=names) if part.first and names else part for part in parts]


def read_row(text: str, language: str, of: int, linker: Linker) -> list[Sentence]:
    """A text in one piece, read; of one that is too long its sentences."""
    whole = _fits(text, language, linker)
    return [read(text, language, of, linker)] if whole else read_text(text, language, of, linker)


def read(text: str, language: str, of: int, linker: Linker, *, names: Collection[str] = ()) -> Sentence:
    """The sentence without its unknown words, cut to the model's length. `names`: spelled names of the whole text."""
    known, spoken = linker.words.get(language, ()), linker.spoken.get(language, "")
    whole, owners = written_out(text, spoken, known)
    words = words_of(whole)
    familiar = [word.key in known for word in words]
    carried: list[tuple[int, str]] = []
    nouns: list[str] = []
    left: list[Word] = []
    first: list[str] = []
    guesses: list[Word] = []
    pieces: list[Word] = []
    gone: list[Word] = []
    before = 0  # known words
    for word, is_known, kind in zip(words, familiar, kinds(whole, words, spoken, owners), strict=True):
        if is_known:
            before += 1
            continue
        spelling = spelled(word.written, language, linker.spells) if kind != OTHER else None
        if spelling is not None and (kind != FIRST or spelling in names):
            carried.append((before, spelling))
            nouns += [spelling] if kind == NOUN_OR_NAME else []
            gone.append(word)
        else:
            group = guesses if linker.reads_unknown else pieces if legible(word, linker) else left
            group.append(word)
            first += [word.written] if kind == FIRST and not linker.reads_unknown else []
            gone += [word] if group is left else []
    unknown = [*as_written(left), *(["'s"] if owners else [])]
    guessed, pieced = as_written(guesses), as_written(pieces)
    rest, said = _without(whole, gone), ""
    telling = [
        is_known and (not ties(word.written, spoken) or (not gone and signed_alone(word, language, linker)))
        for word, is_known in zip(words, familiar, strict=True)
    ]
    # Articles and the like are no text: a model that is given nothing else makes one up.
    count = before if any(telling) or guessed or pieced else 0
    if before and not count and not gone:
        said = f"{shortened(text)} was not signed: its words say nothing by themselves"
    part = Sentence(
        text, language, of, carried=tuple(carried), nouns=tuple(nouns), unknown=tuple(unknown), first=tuple(first),
        guessed=tuple(guessed), pieced=tuple(pieced),
    )  # fmt: skip
    # "how do you sign 'Anna'?", "please sign: the zebra": what is asked for stands there, and nothing of it is left to
    # read.
    for start, end in asked(whole):
        inside = [i for i, word in enumerate(words) if start <= word.start and word.end <= end]
        if count and inside and not any(telling[i] for i in inside):
            rest, count = "", 0
            part = replace(part, nouns=())  # what is asked for is meant, noun or name
            said = f"{shortened(text)}: the words around what is asked for were not signed"
    if not count:
        return replace(part, unknown=(*unknown, *guessed, *pieced), guessed=(), pieced=(), cut=said)
    kept, cut = _cut(rest, text, language, linker)
    if not kept:
        return replace(part, cut=cut)
    if cut:
        there = {word.key for word in words_of(kept)}
        pieced = as_written(word for word in pieces if word.key in there)
        read_words = sum(word.key in known for word in words_of(kept))
        reached = tuple((place, gloss) for place, gloss in carried if place <= read_words)
        names = {gloss for _, gloss in reached}
        nouns = [noun for noun in nouns if noun in names]
        part = replace(part, carried=reached, nouns=tuple(nouns), pieced=tuple(pieced))
        count = min(count, read_words)
    return replace(part, read=kept, known=count, cut=cut)


def legible(word: Word, linker: Linker) -> bool:
    """Whether a word that training lacks is read in pieces: the vocabulary has all its letters."""
    return linker.reads_pieces and linker.tokenizer.unknown_fraction(word.written) == 0


def signed_alone(word: Word, language: str, linker: Linker) -> bool:
    """Whether a word that mostly ties others together has a gloss of its own: a pronoun, or by the training texts."""
    return points(word.written, linker.spoken.get(language, "")) or word.key in linker.taught_of(language).meanings


def spelled(word: str, language: str, spells: Callable[[str, str], bool] | None) -> str | None:
    """The gloss that fingerspells a name or a number; None where its letters are not there.

    Letters with marks are spelled without them where their own signs are missing: Ü as UE, É as E.
    """
    return next((f"#{form}" for form in spellings(word) if spells is None or spells(form, language)), None)


def _without(text: str, gone: Sequence[Word]) -> str:
    """The text without some of its words, nor the full stops of abbreviations among them, and with one mark at its end
    ("..." and "?!" are none that a model learns). In a script without spaces none is left in a word's place.
    """
    for word in reversed(gone):
        after = text[word.end :]
        if after.startswith(".") and words_of(after):
            after = after[1:]
        close = any(map(unspaced, text[max(word.start - 1, 0) : word.end + 1]))
        text = f"{text[: word.start]}{'' if close else ' '}{after}"
    text = " ".join(text.split())
    if (end := _AT_THE_END.search(text)) and len(end[0]) > 1:
        text = text[: end.start()] + next(mark for mark in "?!." if mark in end[0])
    return text


def _cut(text: str, written: str, language: str, linker: Linker) -> tuple[str, str]:
    """The first words, as many as the model reads with its end token; and how that is said of the sentence as it was
    `written`, "" where it is all.
    """

    def fits(end: int) -> bool:
        return len(linker.tokenizer.encode_source(text[:end], language)) <= linker.max_source

    if fits(len(text)):
        return text, ""
    words = words_of(text)
    low, high = 0, len(words)  # the first `low` words fit, the first `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(words[middle - 1].end) else (low, middle)
    if not low:
        said = f"its first word alone is longer than the {linker.max_source} tokens that this run reads"
        return "", f"{shortened(written)} was not read: {said}"
    kept = f"the first {low} of its {len(words)} known words were read"
    return text[: words[low - 1].end], f"{shortened(written)} is longer than {linker.max_source} tokens: {kept}"


# ---- After the model -------------------------------------------------------------------------------------------------


def answered(
    part: Sentence, ids: Int[np.ndarray, "g"], log_probs: Float[np.ndarray, "g"], language: int, linker: Linker
) -> Sentence:
    """The sentence with its glosses: those of the model, and the spelled ones among them. `log_probs`: of each id."""
    if not part.known:
        return replace(part, glosses=part.spelled)
    kept = whole_glosses(linker.rules, language, ids.tolist())
    glosses = linker.tokenizer.decode_gloss(kept)
    index = np.array(linker.tokenizer.gloss_index(kept), int)
    own = log_probs[: len(kept)]
    probabilities = tuple((gloss, float(np.exp(own[index == i].sum()))) for i, gloss in enumerate(glosses))
    unfinished = EOS not in ids
    end = 1.0 if unfinished else float(np.exp(log_probs[ids.tolist().index(EOS)]))
    taught = linker.taught_of(part.language)
    gone = beyond(glosses, taught.in_a_row)
    part = replace(
        part, unfinished=unfinished, probabilities=probabilities, end=end,
        repeated=tuple(dict.fromkeys(glosses[place] for place in gone)),
    )  # fmt: skip
    glosses = tuple(gloss for place, gloss in enumerate(glosses) if place not in gone)
    if (instead := _instead(part, glosses, taught, linker)) is not None:
        part, glosses = replace(part, unfinished=False, instead=instead), (instead[1],)
    words, known = words_of(part.read), linker.words.get(part.language, ())
    before = [sum(one.key in known for one in words[:i]) for i in range(len(words))]
    every, invented = without_invented(glosses, part.carried, [word.written for word in words], before, part.known)
    lost = unsaid(part.read, every, taught.meanings) if glosses else ()
    return replace(part, glosses=every, invented=tuple(invented), unsaid=tuple(lost))


def _instead(part: Sentence, glosses: Sequence[str], taught: Taught, linker: Linker) -> tuple[str, str] | None:
    """The only word that says anything, of what is asked for where something is, and its gloss; where the model's own
    glosses lack it, or it is repeated among them. A model that is sure gives way only to a word's one gloss: of a word
    that brings several none is the answer alone.
    """
    text, spoken = asked_alone(part.read), linker.spoken.get(part.language, "")
    one = only_meaning(text, spoken, taught.meanings, taught.companions)
    if one is None or is_letter(one[1]) or one[1] not in linker.sayable[part.language]:
        return None
    if glosses and not part.doubted and one[0] in taught.several:
        return None
    return one if one[1] not in glosses or part.repeated else None

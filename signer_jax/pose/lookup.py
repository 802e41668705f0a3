"""Words looked up in a pose database without a model: by gloss, by what a lexicon says that a sign means, by its name
without the marks around it, as another form of a word, in a language that may stand in, part by part, as a number,
letter by letter. How each was found is told, and what is not simply found is said.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from signer_jax.pose import gloss_marks, numbers
from signer_jax.pose.fingerspelling import spellings, unspellable
from signer_jax.pose.prior import NO_PRIORITY, Entry, Prior

_LONGEST = 4  # words of an entry's name, or of a meaning, that are looked up together
_HINTED = 4  # letters: shorter words are near to anything
_JOINS = "-'_+^*~#$:()"


# How a word may be found, in the order in which it is tried.
GLOSS, CASE, MEANING, MARKS, FORM = "gloss", "gloss in another case", "meaning", "without marks", "form of a word"
LANGUAGE, COMPOUND, ALTERNATIVE, NUMBER = "another language", "compound", "alternative", "number"
SPELLED, MARK, SKIPPED = "fingerspelled", "mark", "skipped"
HOW = (GLOSS, CASE, MEANING, MARKS, FORM, LANGUAGE, COMPOUND, ALTERNATIVE, NUMBER, SPELLED, MARK, SKIPPED)


@dataclass(frozen=True)
class Found:
    """What became of a word, or of several that one entry names."""

    word: str
    entries: tuple[Entry, ...] = ()  # in their order; none: it is skipped
    spelled: bool = False
    how: str = SKIPPED
    within: tuple[tuple[int, int], ...] = ()  # the entries (first, past the last) that spell a part of a compound
    said: str = ""  # what a reader must know: another gloss than was asked for, a choice, what is missing
    mark: bool = False  # it stands for no sign
    partial: bool = False  # a compound of which a part is spelled or lacks

    def group(self, place: int) -> int:
        """The first entry of those that spell a word together with the one at this place: itself where it is a sign."""
        if self.spelled:
            return 0
        return next((first for first, last in self.within if first <= place < last), place)


def look_up(words: Sequence[str], language: str, prior: Prior) -> list[Found]:
    """The signs of the words, in their order, by the signer who has most of them; of what is not there, what is said
    names a near gloss.

    Of equal priority the signer's own variant is taken. A spelled word has one signer, where one has all its letters.
    """
    found = find(words, language, prior)
    if signer := _signer_of([entry for one in found for entry in one.entries], prior):
        prior = prior.preferring(signer)
        found = find(words, language, prior)
    found = [_of_one_signer(one, language, prior) if one.spelled else one for one in found]
    for i, one in enumerate(found):
        if not one.entries and not one.mark:
            hint = prior.hint(one.word, language) if len(one.word) >= _HINTED else ""
            letters = gloss_marks.spelled(one.word) or gloss_marks.shown(one.word) or one.word
            spoken = prior.spoken_beside(language)
            lacking = unspellable(letters, lambda letter: bool(prior.fingerspell(letter, language)), spoken)
            why = f", nor are signs for {' '.join(lacking)}" if lacking else ""
            found[i] = replace(one, said=f"{one.word}: not in the database{hint}{why}")
    return found


def _signer_of(entries: Sequence[Entry], prior: Prior, equals: bool = True) -> str:
    """The signer who has most of these signs (of equal priority, or of any), of equals who was chosen most; "" where
    they are one's, or nobody's who is named.
    """
    if len({entry.signer for entry in entries}) < 2:
        return ""
    have: Counter[str] = Counter()
    for entry in entries:
        variants = prior.variants(entry.gloss, entry.language)
        have.update({one.signer for one in variants if one.priority == entry.priority or not equals})
    del have[""]
    chosen = Counter(entry.signer for entry in entries)
    return max(sorted(have), key=lambda signer: (have[signer], chosen[signer]), default="")


def _of_one_signer(one: Found, language: str, prior: Prior) -> Found:
    """A spelled word by the signer who has most of its letters; that it is not one signer's is said."""
    if signer := _signer_of(one.entries, prior, equals=False):
        again = _spelled(one.word, language, prior.preferring(signer, first=True))
        one = replace(one, entries=again.entries or one.entries)
        if len(signers := {entry.signer for entry in one.entries}) > 1:
            said = f"its letters are of {len(signers)} signers, of whom none has all"
            return replace(one, said=f"{one.said}; {said}" if one.said else f"{one.word}: {said}")
    return one


def find(words: Sequence[str], language: str, prior: Prior) -> list[Found]:
    """As `look_up`, but nothing is said of what is not there."""
    found, i = [], 0
    while i < len(words):
        for n in range(min(_LONGEST, len(words) - i), 0, -1):
            phrase = " ".join(words[i : i + n])
            # Several words may be one gloss that is written with hyphens.
            if one := _named(phrase, language, prior) or (_unmarked(phrase, language, prior) if n > 1 else None):
                break
        else:
            n, one = 1, _otherwise(words[i], language, prior)
        found.append(one)
        i += n
    return found


def _named(word: str, language: str, prior: Prior) -> Found | None:
    """By the gloss itself, or by a meaning."""
    if entries := prior.variants(word, language):
        how = GLOSS if entries[0].gloss == word else CASE
        return Found(word, (entries[0],), how=how, said=_choice(word, entries))
    if entries := prior.meanings(word, language):
        best = entries[0]
        choice = _choice(word, entries)
        said = f"{word}: signed as {best.gloss}, which means it{choice and f'; {choice}'}"
        return Found(word, (best,), how=MEANING, said=said)
    return None


def _unmarked(word: str, language: str, prior: Prior) -> Found | None:
    entries = prior.unmarked(word, language)
    return _instead(word, entries[0]) if entries else None


def _instead(word: str, entry: Entry) -> Found:
    said = f"{word}: not there; signed as {entry.gloss}, the nearest gloss{gloss_marks.lost(word)}"
    return Found(word, (entry,), how=MARKS, said=said)


def _sign(word: str, language: str, prior: Prior) -> Found | None:
    """The one sign of a word: by its name or meaning, by those of what is left without marks, or as another form."""
    if one := _named(word, language, prior) or _unmarked(word, language, prior):
        return one
    for base in gloss_marks.bases(word):
        if one := _named(base, language, prior) or _unmarked(base, language, prior):
            return _instead(word, one.entries[0])
    if entries := prior.forms(word, language):
        said = f"{word}: signed as {entries[0].gloss}, of which it is a form"
        return Found(word, (entries[0],), how=FORM, said=said)
    return None


def _in_another(word: str, language: str, prior: Prior) -> Found | None:
    """The sign of a language that may stand in for this one (`Prior.fallbacks`), and for that one, and so on."""
    codes, tried = list(prior.fallbacks.get(language, ())), {language}
    for code in codes:  # which grows
        if code in tried:
            continue
        tried.add(code)
        if one := _sign(word, code, prior):
            said = f"{word}: not there in {language}; signed as {one.entries[0].gloss} of {code}"
            return replace(one, how=LANGUAGE, said=said)
        codes += prior.fallbacks.get(code, ())
    return None


def _number(word: str, language: str, prior: Prior) -> Found | None:
    """Of several number signs."""

    def sign(number: str) -> Entry | None:
        one = _named(number, language, prior) or _unmarked(number, language, prior)
        return one.entries[0] if one else None

    if not word.isdecimal():
        return None
    parts = numbers.built(word, lambda number: sign(number) is not None, prior.spoken_beside(language))
    signs = [sign(part) for part in parts or ()]
    if not parts:
        return None
    said = f"{word}: built of the signs for {' '.join(parts)}"
    return Found(word, tuple(one for one in signs if one), how=NUMBER, said=said)


def _otherwise(word: str, language: str, prior: Prior) -> Found:
    if gloss_marks.is_mark(word):
        return Found(word, how=MARK, mark=True, said=f"{word}: a mark, no sign; skipped")
    letters = gloss_marks.spelled(word)
    if letters and len(gloss_marks.parts(letters.replace("-", ""))) < 2:  # $ALPHA1:A-D+HOUSE is a compound
        marked = _spelled(letters, language, prior)
        if marked.entries:
            return replace(marked, said=marked.said or f"{word}: spelled {marked.word}, as it is marked")
    either = gloss_marks.alternatives(word)
    for way in (_sign, _in_another, _compound):
        if one := way(word, language, prior):
            return one
        for alternative in either:
            if one := way(alternative, language, prior):
                taken = " ".join(entry.gloss for entry in one.entries)
                said = f"{word}: signed as {taken}, one of {len(either)} alternatives"
                return replace(one, word=word, how=ALTERNATIVE, said=said)
    if one := _number(word, language, prior):
        return one
    if (western := "".join(str(int(c)) if c.isdecimal() else c for c in word)) != word and word.isdecimal():
        one = find([western], language, prior)[0]
        if one.entries:
            said = f"{word}: taken as {western}; {one.said}".rstrip("; ")
            return replace(one, word=one.word if one.spelled else word, said=said)
    if gloss_marks.is_letter_or_number(word):  # its class is not to be spelled
        letters = gloss_marks.spelled(word) or gloss_marks.shown(word)
        one = _otherwise(letters, language, prior) if letters else Found(word)
        said = one.said or f"{word}: signed as {letters}"
        return replace(one, word=one.word if one.spelled else word, said=said) if one.entries else Found(word)
    if either and all(len(alternative) > 1 for alternative in either):  # km/h is none
        first = _spelled(either[0], language, prior)
        if first.entries:
            return replace(first, said=f"{word}: spelled {either[0]}, the first of {len(either)} alternatives")
    return _spelled(word, language, prior)


def _compound(word: str, language: str, prior: Prior) -> Found | None:
    """The known parts of a compound; None where none is known. A part that stands for a letter is none: T-shirt is no
    sign T.
    """
    pieces = _pieces(word, language, prior)
    if not any(one and len(part) > 1 for part, one in pieces):
        return None
    known = [(part, one or _built(part, language, prior)) for part, one in pieces]
    signs: tuple[Entry, ...] = ()
    within = []
    for _, one in known:
        within += [(len(signs), len(signs) + len(one.entries))] if one and one.spelled else []
        signs += one.entries if one else ()
    spelt = [part for part, one in known if one and one.spelled]
    gone = [part for part, one in known if not one]
    left = f", {' '.join(spelt)} spelled" if spelt else ""
    left += f", without {' '.join(gone)}" if gone else ""
    negated = "".join(dict.fromkeys(gloss_marks.lost(part) for part, one in known if one))
    said = f"{word}: not there; signed as {' '.join(e.gloss for e in signs)}{left}{negated}"
    return Found(word, signs, how=COMPOUND, said=said, within=tuple(within), partial=bool(gone or spelt))


def _built(part: str, language: str, prior: Prior) -> Found | None:
    """A part of a compound that has no sign, as a number or letter by letter, without its marks; no pronoun, which is
    no word.
    """
    *_, name = (part, *gloss_marks.bases(part))
    name = gloss_marks.spelled(part) or name
    if one := _number(name, language, prior):
        return one
    one = Found(part) if gloss_marks.is_pronoun(part) or _unsaid(name) else _spelled(name, language, prior)
    return one if one.entries else None


def _pieces(word: str, language: str, prior: Prior) -> list[tuple[str, Found | None]]:
    found: list[tuple[str, Found | None]] = []
    for part in gloss_marks.parts(word):
        one = _sign(part, language, prior)
        inner = [] if one else _pieces(part, language, prior)
        found += inner if any(piece for _, piece in inner) else [(part, one)]
    return found


def _spelled(word: str, language: str, prior: Prior) -> Found:
    for code in (language, *prior.fallbacks.get(language, ())):
        if letters := prior.letters(word, code):
            form = "".join(letter for letter, _ in letters)
            as_it_is = form == spellings(word, prior.spoken_beside(code))[0]
            said = "" if as_it_is else f"{word}: spelled {form}, for lack of signs for its letters"
            if code != language:
                said = f"{word}: spelled {form} with the letters of {code}"
            if gone := _unsaid(word):
                said = f"{said or f'{word}: spelled {form}'}, without {gone}"
            return Found(word, tuple(entry for _, entry in letters), spelled=True, how=SPELLED, said=said)
    return Found(word)


def _unsaid(word: str) -> str:
    """What spelling drops of a word and a reader must know: in what has digits anything (3.5, -5, 50%), else all but
    what only joins or marks (A-D-A, O'Neil, HOUSE*).
    """
    joins = "" if any(map(str.isdigit, word)) else _JOINS
    return " ".join(dict.fromkeys(c for c in word if not (c.isalnum() or c in joins or unicodedata.combining(c))))


def _choice(word: str, entries: Sequence[Entry]) -> str:
    """Which of several ways to sign was taken, and by what; "" where there is one."""
    best, of = entries[0], len({(entry.gloss, entry.variant) for entry in entries})
    if of < 2:
        return ""
    by = "no priority" if best.priority == NO_PRIORITY else f"priority {best.priority}"
    if sum(entry.priority == best.priority for entry in entries) > 1:
        by += f", quality {best.quality:.2f}"
        by += f", signer {best.signer}" if best.signer and len({entry.signer for entry in entries}) > 1 else ""
    return f"{word}: {of} ways to sign it; took {best.gloss} of {best.source or 'the database'} ({by})"

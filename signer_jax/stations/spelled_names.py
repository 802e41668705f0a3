"""Names that the model spells letter by letter: those of the text are kept, made up ones are not said.

A model that has seen a name after every "my name is" spells one there, whether or not the text still has one to read.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from signer_jax.pose.fingerspelling import spellings


def is_letter(gloss: str) -> bool:
    """A single fingerspelled letter or digit, "#A"; "#ANNA" and "#OK" are glosses of their own."""
    return len(gloss) == 2 and gloss[0] == "#"


def units(glosses: Sequence[str], words: Sequence[str]) -> tuple[list[str], dict[int, int], list[int]]:
    """The glosses with the letters of a word in one ("#B #O #B"); which word of the text each spelled one is (unit ->
    index into `words`); and which units spell none, so that the model made them up.

    Every word is there to be spelled once. A run of letters that is not made of such words as a whole ("BOBOB", where
    the text has Bob) still holds those that are written with a capital letter.
    """
    found: list[str] = []
    spelled: dict[int, int] = {}
    invented: list[int] = []
    unused = dict(enumerate(words))
    place = 0
    while place < len(glosses):
        end = place
        while end < len(glosses) and is_letter(glosses[end]):
            end += 1
        for part, word in _parts("".join(gloss[1] for gloss in glosses[place:end]), unused):
            if word is None:
                invented.append(len(found))
            else:
                spelled[len(found)] = word
                del unused[word]
            found.append(" ".join(f"#{letter}" for letter in part))
        if end == place:
            found.append(glosses[place])
            end += 1
        place = end
    return found, spelled, invented


def _parts(letters: str, words: Mapping[int, str]) -> list[tuple[str, int | None]]:
    forms = {i: spellings(word) for i, word in words.items()}

    def following(start: int, used: frozenset[int], capital: bool) -> list[tuple[str, int]]:
        """The words that go on there, the longest first; of equal ones the first."""
        fit: dict[str, int] = {}
        for i, word_forms in forms.items():
            if i not in used and not (capital and words[i].islower()):
                for form in word_forms:
                    if letters.startswith(form, start):
                        fit.setdefault(form, i)
        return sorted(fit.items(), key=lambda one: (-len(one[0]), one[1]))

    @lru_cache(maxsize=4096)
    def whole(start: int, used: frozenset[int]) -> tuple[tuple[str, int], ...] | None:
        if start == len(letters):
            return ()
        for form, i in following(start, used, False):
            if (rest := whole(start + len(form), used | {i})) is not None:
                return ((form, i), *rest)
        return None

    if (all_of_it := whole(0, frozenset())) is not None:
        return list(all_of_it)
    parts: list[tuple[str, int | None]] = []
    used: frozenset[int] = frozenset()
    start, rest = 0, ""
    while start < len(letters):
        fit = [one for one in following(start, used, True) if len(one[0]) > 1]
        if not fit:
            rest += letters[start]
            start += 1
            continue
        parts += [(rest, None), fit[0]] if rest else [fit[0]]
        used, start, rest = used | {fit[0][1]}, start + len(fit[0][0]), ""
    return [*parts, (rest, None)] if rest else parts


def placed(
    glosses: Sequence[str], carried: Sequence[tuple[int, str]], known: int, spelled: Mapping[int, int] | None = None
) -> tuple[str, ...]:
    """A carried word (known words before it, its gloss) stands as far along the glosses as it stands along the known
    words; exact at both ends, and beside the words that are spelled (gloss -> known words before it).
    """
    marks = {0: 0}
    for unit, word in sorted((spelled or {}).items()):
        if word >= max(marks):  # the glosses may have another order than the words
            marks.setdefault(word, unit)
            marks[word + 1] = unit + 1
    marks[known] = len(glosses)
    result = list(glosses)
    for before, gloss in reversed(carried):
        low, high = max(mark for mark in marks if mark <= before), min(mark for mark in marks if mark >= before)
        share = (before - low) / max(high - low, 1)
        result.insert(round(marks[low] + share * (marks[high] - marks[low])), gloss)
    return tuple(result)


def without_invented(
    glosses: Sequence[str], carried: Sequence[tuple[int, str]], words: Sequence[str], before: Sequence[int], known: int
) -> tuple[tuple[str, ...], list[str]]:
    """The glosses with the carried names among them, and the names that the model made up and that are left out.

    A carried name takes the place of a made-up one, in their order, of which nothing is left to tell; what has none is
    `placed`. `words`: those that were read; `before`: how many known words are before each.
    """
    found, spelled, invented = units(glosses, words)
    for unit, (_, gloss) in zip(invented, carried, strict=False):
        found[unit] = gloss
    gone = invented[len(carried) :]
    made_up = [found[unit].replace("#", "").replace(" ", "") for unit in gone]
    kept = [unit for unit in range(len(found)) if unit not in gone]
    marks = {kept.index(unit): before[word] for unit, word in spelled.items()}
    every = placed([found[unit] for unit in kept], carried[len(invented) :], known, marks)
    return tuple(" ".join(every).split()), made_up

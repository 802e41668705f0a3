"""What a run learns of what a prepared set keeps: which texts and signs, and the words and glosses that it then knows.

`glosses_by` names the makers whose glosses it learns; of all where it is empty.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from signer_jax.data.glossing import MACHINES
from signer_jax.data.prepared import layout
from signer_jax.errors import SignerError
from signer_jax.writing import words_of

Row = Mapping[str, Any]


def is_sentence(row: Row, glosses_by: Sequence[str] = ()) -> bool:
    """Whether a run learns glosses of it: a sentence has words, a sign that is shown alone has a gloss alone."""
    return bool(row["sentence"]) and not _lacks(row, glosses_by)


def is_sign(row: Row, glosses_by: Sequence[str] = ()) -> bool:
    return layout.is_sign(row) and _is_by(row, glosses_by)


def _is_by(row: Row, glosses_by: Sequence[str]) -> bool:
    return not glosses_by or row["glosses_by"] in glosses_by


def _lacks(row: Row, glosses_by: Sequence[str]) -> str:
    if not row["language"]:
        return "without a language"
    if not row["glosses"]:
        return "without glosses"
    return "" if _is_by(row, glosses_by) else f"with glosses by {row['glosses_by'] or 'nobody known'}"


def untaught(rows: Iterable[Row], glosses_by: Sequence[str]) -> dict[str, int]:
    """How many texts a run learns no glosses of, by reason; first how many `texts` there are, their prompts aside."""
    found = Counter({"texts": 0})
    for row in rows:
        if row["sentence"] and not row["prompt_by"]:
            found["texts"] += 1
            if lacks := _lacks(row, glosses_by):
                found[lacks] += 1
    return dict(found)


def told(found: Mapping[str, int]) -> str:
    """`untaught` in words; "" where a run learns glosses of all texts."""
    reasons = {reason: count for reason, count in found.items() if reason != "texts" and count}
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"no glosses are learned of {sum(reasons.values())} of {found['texts']} texts: {listed}" if reasons else ""


def makers(rows: Iterable[Row], glosses_by: Sequence[str]) -> dict[str, Counter[str]]:
    """By language, of how many sentences, prompts aside, a run learns whose glosses."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        if is_sentence(row, glosses_by) and not row["prompt_by"]:
            found.setdefault(row["language"], Counter())[row["glosses_by"]] += 1
    return found


def mixed(found: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """By language the makers and their numbers, where there are several."""
    return {
        language: ", ".join(f"{by or 'nobody known'} {count}" for by, count in sorted(of.items()))
        for language, of in sorted(found.items()) if len(of) > 1
    }  # fmt: skip


def check_makers(found: Mapping[str, Mapping[str, int]], glosses_by: Sequence[str]) -> None:
    """Raises `SignerError` where sentences of a language have glosses by programs and others' beside them, unless
    `glosses_by` names the makers.
    """
    told = mixed(found)
    for language, of in found.items():
        if not glosses_by and language in told and any(by in MACHINES for by in of) and not {*of} <= {*MACHINES}:
            every = ",".join(sorted({*of} - {""}))
            raise SignerError(
                f"config.data.glosses_by (): sentences of {language} have glosses by programs beside others' "
                f"({told[language]}); name those to learn, --config.data.glosses_by={every} for all"
            )


def glosses(table: Mapping[str, Any], glosses_by: Sequence[str]) -> dict[str, set[str]]:
    """By language those of a part that these made."""
    if not glosses_by:
        return {language: set(known) for language, known in table["glosses"].items()}
    return {
        language: {gloss for by in glosses_by for gloss in makers.get(by, ())}
        for language, makers in table["glosses_by"].items()
    }


def words(
    one: layout.PreparedSet, name: str, table: Mapping[str, Any], glosses_by: Sequence[str]
) -> dict[str, Collection[str]]:
    """By language those of a part's texts, without the texts whose glosses others made."""
    texts = [row for row in table["kept"] if row["text"]]
    others = [bool(row["glosses"]) and not _is_by(row, glosses_by) for row in texts]
    if not any(other and row["sentence"] for other, row in zip(others, texts, strict=True)):
        return dict(table["words"])
    found: dict[str, set[str]] = {}
    records = one.shard(name, layout.TEXT, len(texts), layout.read_text)
    for at, other in enumerate(others):
        if not other and (language := texts[at]["language"]):
            found.setdefault(language, set()).update(word.key for word in words_of(records[at].text))
    return dict(found)

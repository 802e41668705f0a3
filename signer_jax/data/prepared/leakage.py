"""What splits share: those of a set, for its report, and of different sets, where one run reads several."""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

from signer_jax.data.prepared.compared import Compared

KINDS = {"sentence": "the same sentence", "signer": "the same signer", "film": "the same video"}
FILES = {"video", "pose"}  # ways to know a recording by a file's bytes, which another cut of it has not
_EXAMPLES = 3  # names of a leak between sets
_OF_A_SET = 5
_CHECKSUM = re.compile(r"[0-9a-f]{64}\b")  # of a file, and maybe a line in it; else a dataset's name of a recording

# Of a set: kind -> split -> value -> the name of a sample, and how many have the value.
Seen = dict[str, dict[str, dict[str, tuple[str, int]]]]
Ways = dict[str, dict[str, set[str]]]  # of a set: kind -> split -> how its samples are known, "" of some that are not


def add_ways(ways: Ways, split: str, row: Mapping[str, Any]) -> None:
    """Adds how a table's row is known: its sentence, its signer, its recording by a name or by a file's bytes."""
    known = {"signer": "name" if row["signer"] else ""}
    if row["sentence"] or not row["glosses"]:  # a sign that is shown alone is no sentence
        known["sentence"] = "words" if row["sentence"] else ""
    if row["film"] or row["seconds"]:  # a text alone is of no recording
        known["film"] = row.get("film_by", "")
    for kind, way in known.items():
        ways.setdefault(kind, {}).setdefault(split, set()).add(way)


def within(compared: Compared, ways: Ways, splits: Sequence[str]) -> list[dict[str, Any]]:
    """What two splits of a set share, and how many `samples` of each have something of it. Where samples of one are not
    known, or in other ways than those of the other, numbers are the least that they may be (`at_least`), and 0 says
    nothing: None, as where a split does not say it at all. So it is of recordings that files' bytes alone tell: two
    cuts of one are two files (`no_file`: none is in both).
    """
    rows = []
    for kind, what in KINDS.items():
        of_kind = ways.get(kind, {})
        for one, other in combinations(splits, 2):
            shared, samples, pairs = compared.shared(kind, one, other, _OF_A_SET)
            ways_of = of_kind.get(one, set()) | of_kind.get(other, set())
            alike = of_kind.get(one) == of_kind.get(other) and "" not in ways_of
            known = alike and not ways_of & FILES
            none = not shared and compared.has(kind, one) and compared.has(kind, other)
            rows.append({
                "what": what, "splits": [one, other],
                "shared": shared if shared or (none and known) else None,
                "samples": samples if shared else None,
                "examples": [f"{here} / {there}" for here, there in pairs],
                **({"at_least": True} if shared and not known else {}),
                **({"no_file": True} if none and alike and not known else {}),
            })  # fmt: skip
    return rows


def count_of(row: Mapping[str, Any]) -> str:
    """How many are shared, for people."""
    if row["shared"] is None:
        return "no file in common; recordings not known" if row.get("no_file") else "not known"
    return f"at least {row['shared']}" if row.get("at_least") else str(row["shared"])


def samples_of(row: Mapping[str, Any]) -> str:
    """How many samples of its two splits have something of what they share, for people."""
    if not row.get("samples"):
        return ""
    return " and ".join(f"{count} of {split}" for count, split in zip(row["samples"], row["splits"], strict=True))


def see(seen: Seen, dataset: str, split: str, row: Mapping[str, Any]) -> None:
    """Adds a table's row to what there is of its set. Signers and recordings of two datasets are two by any name."""
    if row["prompt_by"]:
        return
    own = {kind: f"{dataset}/{row[kind]}" for kind in ("signer", "film") if row[kind]}
    if _CHECKSUM.match(row["film"]):
        own["film"] = row["film"]
    for kind, value in {"sentence": row["sentence"], **own}.items():
        if value:
            of_split = seen.setdefault(kind, {}).setdefault(split, {})
            name, times = of_split.get(value, (row["name"], 0))
            of_split[value] = name, times + 1


def between(seen: Sequence[Seen], names: Sequence[str]) -> list[dict[str, Any]]:
    """What two splits share of which the one is in one set, the other in another; nothing of what they do not share."""
    splits = list(dict.fromkeys(split for one in seen for of in one.values() for split in of))
    rows = []
    for kind, what in KINDS.items():
        for one, other in combinations(splits, 2):
            shared: dict[str, str] = {}
            touched: tuple[dict, dict] = {}, {}  # of each split: set and value -> how many samples
            for a, b in permutations(range(len(seen)), 2):
                left, right = seen[a].get(kind, {}).get(one, {}), seen[b].get(kind, {}).get(other, {})
                for value in left.keys() & right.keys():
                    (here, count), (there, theirs) = left[value], right[value]
                    shared.setdefault(value, f"{names[a]}: {here} / {names[b]}: {there}")
                    touched[0][a, value], touched[1][b, value] = count, theirs
            if shared:
                examples = [shared[value] for value in sorted(shared)[:_EXAMPLES]]
                samples = [sum(of.values()) for of in touched]
                rows.append({"what": what, "splits": [one, other], "shared": len(shared), "samples": samples,
                             "examples": examples})  # fmt: skip
    return rows


def told(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What `between` found, in lines."""
    return [
        f"{row['splits'][0]!r} and {row['splits'][1]!r} of different sets share {row['what']}, {row['shared']} in all, "
        f"which {samples_of(row)} have ({', '.join(row['examples'])}): what is measured there is not all new"
        for row in rows
    ]

"""What splits of different sets share, when one run reads several: a set's own report knows that set alone."""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

KINDS = {"sentence": "the same sentence", "signer": "the same signer", "film": "the same video"}
_EXAMPLES = 3
_CHECKSUM = re.compile(r"[0-9a-f]{64}\b")  # of a file, and maybe a line in it; else a dataset's name of a recording

Seen = dict[str, dict[str, dict[str, str]]]  # of a set: kind -> split -> value -> the name of a sample


def see(seen: Seen, dataset: str, split: str, row: Mapping[str, Any]) -> None:
    """Adds a table's row to what there is of its set. Signers and recordings of two datasets are two by any name."""
    if row["prompt_by"]:
        return
    own = {kind: f"{dataset}/{row[kind]}" for kind in ("signer", "film") if row[kind]}
    if _CHECKSUM.match(row["film"]):
        own["film"] = row["film"]
    for kind, value in {"sentence": row["sentence"], **own}.items():
        if value:
            seen.setdefault(kind, {}).setdefault(split, {}).setdefault(value, row["name"])


def between(seen: Sequence[Seen], names: Sequence[str]) -> list[dict[str, Any]]:
    """What two splits share of which the one is in one set, the other in another; nothing of what they do not share."""
    splits = list(dict.fromkeys(split for one in seen for of in one.values() for split in of))
    rows = []
    for kind, what in KINDS.items():
        for one, other in combinations(splits, 2):
            shared: dict[str, str] = {}
            for a, b in permutations(range(len(seen)), 2):
                left, right = seen[a].get(kind, {}).get(one, {}), seen[b].get(kind, {}).get(other, {})
                for value in left.keys() & right.keys():
                    shared.setdefault(value, f"{names[a]}: {left[value]} / {names[b]}: {right[value]}")
            if shared:
                examples = [shared[value] for value in sorted(shared)[:_EXAMPLES]]
                rows.append({"what": what, "splits": [one, other], "shared": len(shared), "examples": examples})
    return rows


def told(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What `between` found, in lines."""
    return [
        f"{row['splits'][0]!r} and {row['splits'][1]!r} of different sets share {row['what']}, {row['shared']} in all "
        f"({', '.join(row['examples'])}): what is measured there is not all new"
        for row in rows
    ]

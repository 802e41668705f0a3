"""The rooms of the package: each imports only those before it, and what one room alone knows stays there."""

import ast
from pathlib import Path

import signer_jax

PACKAGE = Path(signer_jax.__file__).parent

# Files and folders of the package, in the order in which they stand on each other.
ROOMS = (
    "errors", "writing", "types", "arrays", "beside", "layout", "chips", "matmul", "dense", "masked", "progress",
    "allocator", "json_files", "packed", "pickles", "renames", "outside", "machine_lock", "object_store", "stand_ins",
    "mirror_places", "mirror", "bucket_lock", "storage", "presence", "distributed", "ranges", "report", "pose",
    "metrics", "slul", "slp_moe", "renderer", "settings", "validation", "configuration", "workdir", "result",
    "interop", "model", "data", "viewing", "language", "stations", "training", "planning", "back_translation",
    "opened", "pipeline", "export", "evaluation", "baselines", "showcase", "samples", "scores", "reproduction", "cli",
)  # fmt: skip
# Module -> the one file that may import it. A config is loaded there, and is plain settings everywhere else.
KNOWN_BY = {"ml_collections": "configuration.py", "orbax": "training/checkpoints.py"}


def modules() -> list[Path]:
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE or not file.stem.startswith("__")]


def imported(file: Path) -> set[str]:
    """What a file imports, anywhere in it: `a.b` also for `from a import b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_is_in_the_order():
    assert {room(file) for file in modules()} == set(ROOMS)


def test_nothing_reaches_back():
    wrong = []
    for file in modules():
        before = ROOMS[: ROOMS.index(room(file)) + 1]
        for name in imported(file):
            package, _, rest = name.partition(".")
            theirs = rest.partition(".")[0]
            if package == "signer_jax" and theirs in ROOMS and theirs not in before:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_what_one_file_alone_knows():
    for name, only in KNOWN_BY.items():
        know = [file for file in modules() if any(one.partition(".")[0] == name for one in imported(file))]
        assert [str(file.relative_to(PACKAGE)) for file in know] == [only], name

"""docs/when-something-is-wrong.md quotes what the program says: each message is still said so."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "when-something-is-wrong.md"
HOLE = "\0"


def said() -> list[str]:
    """Every text in the source, as one string with holes where values go."""
    texts = []
    for file in sorted((ROOT / "signer_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):  # the facts of `score` are printed as `name: value`
                pairs = ((key, part) for key, value in zip(node.keys, node.values, strict=True) if key
                         for part in ast.walk(value))  # fmt: skip
                texts += [f"{text_of(key)}: {text_of(part)}" for key, part in pairs if text_of(part)]
            texts.append(text_of(node))
    return texts


def text_of(node: ast.AST) -> str:
    """What an f-string or a plain one says; of anything else nothing."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.Constant):
        return str(node.value)
    return HOLE if isinstance(node, ast.FormattedValue) else ""


def quoted() -> list[str]:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [re.match(r"\| `([^`]+)` \|", row)[1] for row in rows]


@pytest.fixture(scope="module")
def source() -> list[str]:
    return said()


def is_said(message: str, source: list[str]) -> bool:
    """Each part between the dots is in some text: a message may be put together from several."""
    parts = [part for part in (part.strip(" :;,.") for part in message.split("…")) if len(part) > 4]
    return sum(map(len, parts)) > 11 and all(any(part in text for text in source) for part in parts)


def test_there_are_messages_of_every_topic():
    assert len(quoted()) > 40 and len(set(quoted())) == len(quoted())
    for page in (ROOT / "README.md", ROOT / "docs" / "files.md"):
        assert "when-something-is-wrong.md" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("message", quoted())
def test_each_message_is_said(message, source):
    assert is_said(message, source), message


def test_a_message_that_nobody_says_is_found(source):
    assert not is_said("…: the moon is full; wait for …", source)

"""Pages for people: poses that play beside each other, and studies of which video is better."""

from pathlib import Path


def beside(name: str) -> str:
    """A script or a style that lies beside the code that writes it into a page."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")

"""The results as a figure."""

from pathlib import Path

from bench.results import Results


def draw(results: Results, path: Path) -> None:
    """Write a PNG."""

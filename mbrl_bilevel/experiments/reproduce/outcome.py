"""What computing a figure gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

Advance = Callable[[], None]
"""Called once after each fit, to show progress."""


@dataclass(frozen=True)
class Outcome:
    """Numbers, a report on them, and pictures.

    Attributes:
        results: Becomes results.json.
        report: Markdown.
        figures: By the name of their file in plots/.
    """

    results: dict[str, Any]
    report: str
    figures: dict[str, Figure]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seeds_text(seed: int, num_seeds: int) -> str:
    """Return which seeds were run, and what the margins in the table mean."""
    if num_seeds == 1:
        return f"Seed {seed}."
    return f"Seeds {seed} to {seed + num_seeds - 1}: mean +- half of the 95% interval."

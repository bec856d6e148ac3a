"""Tables as text: words aligned left, numbers aligned right."""

from __future__ import annotations

from collections.abc import Sequence


def words_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words, the first of them the header, in left-aligned columns; the last column is not padded."""
    widths = _widths(rows)
    widths[-1] = 0
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)


def figures_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of numbers as text, the first of them the underlined header, in right-aligned columns."""
    widths = _widths(rows)
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]

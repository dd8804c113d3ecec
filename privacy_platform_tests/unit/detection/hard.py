"""Reads `hard_columns.txt`: tables of columns that look personal and are not, and the reverse."""

from collections.abc import Iterator
from pathlib import Path

from privacy_platform.detection.detector import Column, Table

LabelledTable = tuple[Table, list[str]]


def hard_tables() -> Iterator[LabelledTable]:
    """The tables and the labels of their columns."""
    text = (Path(__file__).parent / "hard_columns.txt").read_text(encoding="utf-8")
    for block in text.split("\n## ")[1:]:
        title, *lines = block.split("\n")
        cells = [line.split("|", 2) for line in lines if "|" in line]
        columns = [
            Column(name.strip(), [value.strip() for value in values.split(" ; ") if value.strip()], 5)
            for name, _, values in cells
        ]
        yield Table(title, columns), [label.strip() for _, label, _ in cells]

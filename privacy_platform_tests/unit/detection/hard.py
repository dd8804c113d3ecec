"""Reads the labelled columns of `hard_columns.txt` and `fresh_columns.txt`.

A line is `column | label | values`. A label may be followed by `~kind`: the values only look like that kind, and must
not be taken for it (`none ~iban`: the check digits are wrong).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from privacy_platform.detection.detector import Column, Table

LabelledTable = tuple[Table, list[str]]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A table, the labels of its columns, and the kinds that each only looks like."""

    table: Table
    labels: list[str]
    alike: list[frozenset[str]]


def read_tables(file: str) -> Iterator[Labelled]:
    """The tables of a file."""
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    for block in text.split("\n## ")[1:]:
        title, *lines = block.split("\n")
        cells = [line.split("|", 2) for line in lines if "|" in line]
        columns = [
            Column(name.strip(), [value.strip() for value in values.split(" ; ") if value.strip()], 5)
            for name, _, values in cells
        ]
        labels = [label.split("~") for _, label, _ in cells]
        yield Labelled(
            Table(title.strip(), columns),
            [label[0].strip() for label in labels],
            [frozenset(kind.strip() for kind in label[1:]) for label in labels],
        )


def hard_tables() -> Iterator[LabelledTable]:
    """The tables of the hard columns, and the labels of their columns."""
    for labelled in read_tables("hard_columns.txt"):
        yield labelled.table, labelled.labels


def fresh_tables() -> Iterator[LabelledTable]:
    """The tables of the fresh columns, and the labels of their columns."""
    for labelled in read_tables("fresh_columns.txt"):
        yield labelled.table, labelled.labels

"""What a generation run wrote, as values."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Dataset = Literal["users", "events"]
DirtKind = Literal["broken_line", "missing_field", "mistyped_field", "duplicate", "pii", "unknown_user"]

QUARANTINED_KINDS: frozenset[DirtKind] = frozenset({"broken_line", "missing_field", "mistyped_field"})
"""Kinds a raw stage must quarantine; the other kinds are well-formed rows that later stages deal with."""


@dataclass(frozen=True, slots=True)
class PlantedRow:
    """One bad row put into a file on purpose.

    Attributes:
        file: Name of the file, without its folder.
        line_number: Line in the uncompressed file from 1, the CSV header counted; row from 1 for Parquet.
        kind: What is wrong with it.
        detail: The variant, such as the field concerned (``user_id``) or ``verbatim``/``changed``.
    """

    file: str
    line_number: int
    kind: DirtKind
    detail: str


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """One finished file: its path, dataset, number of data rows (planted ones counted) and size in bytes."""

    path: Path
    dataset: Dataset
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """The files of one run and the bad rows planted in them.

    ``planted_rows`` is empty when ``dirty`` was 0. A planted duplicate is an *additional* row, so a dirty
    file has more rows than were asked for, by exactly the number of its duplicates.
    """

    files: tuple[GeneratedFile, ...]
    seed: int
    planted_rows: tuple[PlantedRow, ...] = field(default=(), repr=False)

    @property
    def rows(self) -> Mapping[str, int]:
        """Data rows by file name."""
        return {file.path.name: file.rows for file in self.files}

    @property
    def planted(self) -> Mapping[str, int]:
        """Planted bad rows by kind."""
        return dict(sorted(Counter(str(row.kind) for row in self.planted_rows).items()))

    def planted_in(self, dataset: Dataset) -> tuple[PlantedRow, ...]:
        """Planted rows of one dataset, in the order of files and lines."""
        names = {file.path.name for file in self.files if file.dataset == dataset}
        return tuple(row for row in self.planted_rows if row.file in names)

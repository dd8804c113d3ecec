"""Hierarchies that are CSV files.

Two forms are read, in UTF-8. With a header: the first column is the leaf, every further column one level coarser, and
the last level, `*`, is implicit; separated by commas. As ARX writes them: no header, one row a leaf from the value
itself to `*`, separated by semicolons, commas or tabs; recognized by every row ending in `*`; the levels are called
`level_0`, `level_1`, …, `*`.

Files of the user's policy folder (its `hierarchies/` subfolder, or the folder itself) come before the packaged ones. A
file is refused unless it is total (no empty cell), its leaves are unique (ignoring case and surrounding blanks) and it
is a tree: a group has one parent.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

import polars as pl

from privacy_platform.anonymization.distinct import for_each_distinct
from privacy_platform.anonymization.hierarchies.base import ANY, Hierarchy, HierarchyError, anything
from privacy_platform.settings import user_policies

__all__ = ["PACKAGED", "Table", "load", "read"]

PACKAGED = Path(__file__).resolve().parents[2] / "policies" / "hierarchies"
_SEPARATORS = (";", "\t", ",")


@dataclass(frozen=True)
class Table(Hierarchy):
    """One validated file. A leaf is a row.

    Attributes:
        name: The file's name without suffix.
        columns: Names of the levels from the leaf to the coarsest below `*`.
        rows: One tuple a leaf, in the order of the file, without the `*` level.
    """

    fits: ClassVar[frozenset[str]] = frozenset({"string", "integer", "boolean"})

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"hierarchy {self.name!r}"

    @property
    def levels(self) -> tuple[str, ...]:
        """The columns, then `*`."""
        return (*self.columns, ANY)

    @property
    def leaf(self) -> str:
        """The first column."""
        return self.columns[0]

    def labels(self, level: str) -> frozenset[str]:
        """Every label a value can get at a level, ``*`` included."""
        at = self.position(level)
        return frozenset((ANY,)) | (frozenset(row[at] for row in self.rows) if level != ANY else frozenset())

    @cached_property
    def _keys(self) -> pl.Series:
        return _keys([row[0] for row in self.rows])

    def generalize(self, column: pl.Expr, level: str) -> pl.Expr:
        """Each value's label; case and surrounding blanks do not matter."""
        at = self.position(level)
        if level == ANY:
            return anything(column)
        labels = pl.Series([row[at] for row in self.rows], dtype=pl.String)

        def known(values: pl.Series) -> pl.Series:
            text = pl.col(values.name)
            label = _folded(text).replace_strict(self._keys, labels, default=ANY, return_dtype=pl.String)
            return values.to_frame().select(pl.when(text.is_not_null()).then(label)).to_series()

        return for_each_distinct(column.cast(pl.String), known)

    def coarsen(self, labels: pl.Expr, finest: str, level: str) -> pl.Expr:
        """The parent, or a further ancestor."""
        self.between(finest, level)
        if level == ANY:
            return anything(labels)
        fine, coarse = self.position(finest), self.position(level)
        parents = {row[fine]: row[coarse] for row in self.rows} | {ANY: ANY}
        return pl.when(labels.is_not_null()).then(labels.replace_strict(parents, default=ANY, return_dtype=pl.String))

    def leaves(self, labels: pl.Series, finest: str, level: str) -> tuple[pl.Series, int]:
        """Rows under the group, and rows of the file."""
        at, total = self.position(level), len(self.rows)
        if level == ANY:
            return pl.repeat(total, len(labels), dtype=pl.Float64, eager=True), total
        sizes = Counter(row[at] for row in self.rows)
        groups = labels.to_frame("v").select(self.coarsen(pl.col("v"), finest, level)).to_series()
        return groups.replace_strict(sizes, default=None, return_dtype=pl.Float64), total


def _folded(text: pl.Expr) -> pl.Expr:
    """What values are compared by: without regard to case, surrounding blanks and Unicode form."""
    return text.str.strip_chars().str.normalize("NFC").str.to_lowercase()


def _keys(leaves: Sequence[str]) -> pl.Series:
    return pl.select(_folded(pl.lit(pl.Series(leaves, dtype=pl.String)))).to_series()


def read(path: Path) -> Table:
    """Read and validate one hierarchy file.

    Raises:
        HierarchyError: Names the file and the line.
    """
    try:
        lines = _cells(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HierarchyError(f"hierarchy file {path.name} cannot be read as UTF-8 CSV") from error
    first = 1
    if lines and all(len(line) > 1 and line[-1] == ANY for line in lines):
        levels = tuple(f"level_{n}" for n in range(max(len(lines[0]), 2) - 1))
        rows = [line[:-1] for line in lines]
    else:
        levels, rows, first = _header(path.name, lines), lines[1:], 2
    table = tuple(tuple(line) for line in rows)
    _validate(path.name, levels, table, first)
    return Table(path.stem, levels, table)


def _cells(path: Path) -> list[list[str]]:
    """The file's cells without surrounding blanks; blank lines at its end are no lines."""
    text = path.read_text(encoding="utf-8-sig").rstrip()
    head = text.partition("\n")[0]
    separator = next((s for s in _SEPARATORS if s in head), ",")
    return [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator)]


def _header(name: str, lines: Sequence[Sequence[str]]) -> tuple[str, ...]:
    if not lines or len(lines[0]) < 2:
        raise HierarchyError(f"{name}, line 1: write a header: the leaf's column and at least one coarser level")
    levels = tuple(lines[0])
    if "" in levels or ANY in levels or len(set(levels)) != len(levels):
        raise HierarchyError(f"{name}, line 1: level names must be distinct, not empty and not '*'")
    return levels


def _validate(name: str, levels: tuple[str, ...], rows: Sequence[tuple[str, ...]], first: int) -> None:
    """Refuse a file that is not total, repeats a leaf, or is not a tree."""
    if not rows:
        raise HierarchyError(f"{name}: write at least one line below the header")
    keys = _keys([row[0] if row else "" for row in rows]).to_list()
    leaves: dict[str, int] = {}
    parents: list[dict[str, tuple[str, int]]] = [{} for _ in levels]
    for line, (row, key) in enumerate(zip(rows, keys, strict=True), first):
        if len(row) != len(levels) or "" in row:
            raise HierarchyError(f"{name}, line {line}: fill all {len(levels)} columns")
        if key in leaves:
            raise HierarchyError(f"{name}, line {line}: the leaf of line {leaves[key]} is repeated; keep one")
        if ANY in row and set(row[row.index(ANY) :]) != {ANY}:
            raise HierarchyError(f"{name}, line {line}: what is '*' at a level is '*' at every coarser one")
        leaves[key] = line
        for level in range(1, len(levels) - 1):
            group, parent = row[level], row[level + 1]
            known, seen = parents[level].setdefault(group, (parent, line))
            if known != parent:
                raise HierarchyError(
                    f"{name}, line {line}: a group of level {levels[level]!r} has another parent than "
                    f"in line {seen}; a hierarchy is a tree"
                )


@lru_cache(maxsize=64)
def _read_version(path: Path, _modified: int, _size: int) -> Table:
    return read(path)


def load(name: str, folder: Path | None = None) -> Table:
    """Find a hierarchy by name; cached until its file changes.

    Args:
        name: File name without ``.csv``.
        folder: The user's policy folder; the configured one by default. Packaged files come last.

    Raises:
        HierarchyError: No such file, or it is wrong.
    """
    user = folder or user_policies()
    folders = [*([user / "hierarchies", user] if user else []), PACKAGED]
    if not name or os.sep in name or name.startswith("."):
        raise HierarchyError(f"{name!r} is not the name of a hierarchy: write a file name without folder and suffix")
    for place in folders:
        path = place / f"{name}.csv"
        if path.is_file():
            status = path.stat()
            return _read_version(path, status.st_mtime_ns, status.st_size)
    raise HierarchyError(f"no hierarchy {name!r}: put {name}.csv into the hierarchies folder beside your policies")

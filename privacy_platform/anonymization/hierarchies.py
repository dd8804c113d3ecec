"""Generalization hierarchies: CSV files that say what a value becomes at each coarser level.

A file `NAME.csv` has a header; its first column is the leaf, every further column one level coarser; the last
level, one group of everything written `*`, is implicit. Files of the user's policy folder (its `hierarchies/`
subfolder, or the folder itself) come before the packaged ones. A file is refused unless it is total (no empty
cell), its leaves are unique (ignoring case and surrounding blanks) and it is a tree: a group has one parent.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import polars as pl

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.settings import user_policies

__all__ = ["ANY", "Hierarchy", "HierarchyError", "load", "read"]

ANY = "*"
"""The label of the implicit last level, and of every value that the hierarchy does not know."""

_PACKAGED = Path(__file__).resolve().parent.parent / "policies" / "hierarchies"


class HierarchyError(PrivacyPlatformError):
    """A hierarchy file is missing or wrong, or a level does not exist. Names file and line."""


@dataclass(frozen=True)
class Hierarchy:
    """One validated hierarchy.

    Attributes:
        name: The file's name without suffix.
        levels: Column names from the leaf to the coarsest, then ``*``.
        rows: One tuple a leaf, in the order of the file, without the ``*`` level.
    """

    name: str
    levels: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def position(self, level: str) -> int:
        """Index of a level: 0 is the leaf.

        Raises:
            HierarchyError: There is no such level.
        """
        if level not in self.levels:
            raise HierarchyError(
                f"hierarchy {self.name!r} has no level {level!r}; choose one of {', '.join(self.levels)}"
            )
        return self.levels.index(level)

    def labels(self, level: str) -> frozenset[str]:
        """Every label a value can get at a level, ``*`` included."""
        at = self.position(level)
        return frozenset((ANY,)) | (frozenset(row[at] for row in self.rows) if level != ANY else frozenset())

    @cached_property
    def _keys(self) -> pl.Series:
        return pl.Series([_key(row[0]) for row in self.rows], dtype=pl.String)

    def generalize(self, column: pl.Expr, level: str) -> pl.Expr:
        """Expression: each value's label at a level; ``*`` for values not in the file; null stays null.

        Case and surrounding blanks do not matter.

        Raises:
            HierarchyError: There is no such level.
        """
        at = self.position(level)
        text = column.cast(pl.String)
        if level == ANY:
            return pl.when(text.is_not_null()).then(pl.lit(ANY))
        labels = pl.Series([row[at] for row in self.rows], dtype=pl.String)
        known = text.str.strip_chars().str.to_lowercase()
        return (
            pl.when(text.is_not_null())
            .then(known.replace_strict(self._keys, labels, default=ANY, return_dtype=pl.String))
            .otherwise(None)
        )


def _key(leaf: str) -> str:
    """What leaves are compared by; the same folding as the expression's."""
    return pl.Series([leaf]).str.strip_chars().str.to_lowercase().item()  # type: ignore[no-any-return]


def read(path: Path) -> Hierarchy:
    """Read and validate one hierarchy file.

    Raises:
        HierarchyError: Names the file and the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HierarchyError(f"hierarchy file {path.name} cannot be read as UTF-8 CSV") from error
    if not lines or len(lines[0]) < 2:
        raise HierarchyError(f"{path.name}, line 1: write a header: the leaf's column and at least one coarser level")
    levels = tuple(cell.strip() for cell in lines[0])
    if levels[-1] == ANY:  # written out: the same as implied
        levels = levels[:-1]
        lines = [line[:-1] if len(line) == len(lines[0]) else line for line in lines]
    if "" in levels or ANY in levels or len(set(levels)) != len(levels):
        raise HierarchyError(f"{path.name}, line 1: level names must be distinct, not empty and not '*'")
    rows = tuple(tuple(cell.strip() for cell in line) for line in lines[1:])
    _validate(path.name, levels, rows)
    return Hierarchy(path.stem, (*levels, ANY), rows)


def _validate(name: str, levels: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Refuse a file that is not total, repeats a leaf, or is not a tree."""
    if not rows:
        raise HierarchyError(f"{name}: write at least one line below the header")
    keys = pl.Series([row[0] if row else "" for row in rows], dtype=pl.String).str.to_lowercase().to_list()
    leaves: dict[str, int] = {}
    parents: list[dict[str, tuple[str, int]]] = [{} for _ in levels]
    for line, (row, key) in enumerate(zip(rows, keys, strict=True), 2):
        if len(row) != len(levels) or "" in row:
            raise HierarchyError(f"{name}, line {line}: fill all {len(levels)} columns")
        if key in leaves:
            raise HierarchyError(f"{name}, line {line}: the leaf of line {leaves[key]} is repeated; keep one")
        leaves[key] = line
        for level in range(1, len(levels) - 1):
            group, parent = row[level], row[level + 1]
            known, first = parents[level].setdefault(group, (parent, line))
            if known != parent:
                raise HierarchyError(
                    f"{name}, line {line}: a group of level {levels[level]!r} has another parent than "
                    f"in line {first}; a hierarchy is a tree"
                )


@lru_cache(maxsize=64)
def _read_version(path: Path, _modified: int, _size: int) -> Hierarchy:
    return read(path)


def load(name: str, folder: Path | None = None) -> Hierarchy:
    """Find a hierarchy by name; cached until its file changes.

    Args:
        name: File name without ``.csv``.
        folder: The user's policy folder; the configured one by default. Packaged files come last.

    Raises:
        HierarchyError: No such file, or it is wrong.
    """
    user = folder or user_policies()
    folders = [*([user / "hierarchies", user] if user else []), _PACKAGED]
    if not name or os.sep in name or name.startswith("."):
        raise HierarchyError(f"{name!r} is not the name of a hierarchy: write a file name without folder and suffix")
    for place in folders:
        path = place / f"{name}.csv"
        if path.is_file():
            status = path.stat()
            return _read_version(path, status.st_mtime_ns, status.st_size)
    raise HierarchyError(f"no hierarchy {name!r}: put {name}.csv into the hierarchies folder beside your policies")

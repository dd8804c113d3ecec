"""What every generalization hierarchy promises, whatever it is made of.

A hierarchy is a tree over the values of a column: its levels, finest first, say which group a value belongs to, and
the last one is `*`, a single group of everything. Null belongs to no group but that one. A value that the hierarchy
does not know is `*` at every level. Each level is a function of every finer one, so a label of a finer level is
enough to know the coarser ones (`coarsen`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import polars as pl

from privacy_platform.anonymization.rules import OutputRule
from privacy_platform.errors import PrivacyPlatformError

__all__ = ["ANY", "Hierarchy", "HierarchyError", "anything"]

ANY = "*"
"""The label of the last level, and of every value that the hierarchy does not know."""


class HierarchyError(PrivacyPlatformError):
    """A hierarchy is missing or wrong, or a level does not exist. Names file and line, or the level."""


class Hierarchy(ABC):
    """A generalization hierarchy (Samarati & Sweeney 1998)."""

    fits: ClassVar[frozenset[str]]
    """The field types (as in policy files) that the hierarchy can generalize."""
    keeps_type: ClassVar[bool] = False
    """Whether a column that is the same level throughout is published in the field's own type."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What messages call it."""

    @property
    @abstractmethod
    def levels(self) -> tuple[str, ...]:
        """Names of the levels, finest first; the last is `*`."""

    @property
    @abstractmethod
    def leaf(self) -> str | None:
        """The level that is the value itself; None if no level is."""

    @abstractmethod
    def generalize(self, column: pl.Expr, level: str) -> pl.Expr:
        """Expression: the text label of each value's group at a level. Below `*`, null stays null.

        Raises:
            HierarchyError: There is no such level.
        """

    @abstractmethod
    def coarsen(self, labels: pl.Expr, finest: str, level: str) -> pl.Expr:
        """Expression: from labels of the level `finest` to those of `level`, which is not finer.

        The same as `generalize(column, level)`, of which the values themselves need not be known any more.

        Raises:
            HierarchyError: There is no such level.
        """

    @abstractmethod
    def leaves(self, labels: pl.Series, finest: str, level: str) -> tuple[pl.Series, int]:
        """How much each group of a level comprises, and how much there is.

        Args:
            labels: Labels of the level `finest` that occur.
            finest: Their level.
            level: The level to measure.

        Returns:
            For each of `labels`, the number of leaves under its group at the level (Float64; anything for null and
            `*`), and the number of leaves of the domain. What a leaf is, is the hierarchy's own: see its class.
        """

    @abstractmethod
    def labels(self, level: str) -> frozenset[str] | None:
        """Every label that can come out at a level, `*` included; None if they are not known beforehand."""

    def shape(self, level: str) -> str | None:
        """Regex that every label of a level but `*` fully matches; None if there is none."""
        return None

    def published(self, column: pl.Expr, level: str) -> pl.Expr:
        """Expression: what a column is published as when all of it is at one level."""
        return self.generalize(column, level)

    def position(self, level: str) -> int:
        """Index of a level: 0 is the finest.

        Raises:
            HierarchyError: There is no such level.
        """
        if level not in self.levels:
            raise HierarchyError(f"{self.title} has no level {level!r}; choose one of {', '.join(self.levels)}")
        return self.levels.index(level)

    def between(self, finest: str, coarsest: str) -> tuple[str, ...]:
        """The levels from one to another, finest first.

        Raises:
            HierarchyError: One does not exist, or the second is finer than the first.
        """
        first, last = self.position(finest), self.position(coarsest)
        if last < first:
            raise HierarchyError(f"{self.title}: level {coarsest!r} is finer than {finest!r}; exchange them")
        return self.levels[first : last + 1]

    def output_rule(self, levels: Sequence[str]) -> OutputRule:
        """What the leak finder demands of a text column that holds labels of some levels."""
        known = {level: self.labels(level) for level in levels}
        allowed = frozenset[str]().union({ANY}, *(labels for labels in known.values() if labels is not None))
        shapes = [shape for level, labels in known.items() if labels is None and (shape := self.shape(level))]
        if len(shapes) < sum(labels is None for labels in known.values()):
            return OutputRule(allowed=allowed)
        return OutputRule(shape="|".join(shapes) or None, allowed=allowed, closed=not shapes)


def anything(column: pl.Expr) -> pl.Expr:
    """Expression: `*` in every row of a column, null or not."""
    return pl.when(column.is_null()).then(pl.lit(ANY)).otherwise(pl.lit(ANY))

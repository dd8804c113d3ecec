"""Interval trees for numbers: ranges, of which every coarser one is a union of finer ones."""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from privacy_platform.anonymization.hierarchies.base import ANY, Hierarchy, anything
from privacy_platform.anonymization.ranges import finite, range_index, range_labels

__all__ = ["Intervals"]

LEAF = "level_0"


class Intervals(BaseModel, Hierarchy):
    """Ranges of whole numbers within a declared domain; a number outside of it is `*`.

    Levels are `level_0` (the number itself), `level_1` (the finest ranges), …, `*`. The ranges are given either by
    their lower bounds (`edges`; the last is open-ended, `65+`) or by their widths (`every`; counted from the domain's
    first number, the last range ends with the domain). A leaf is a whole number of the domain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    fits: ClassVar[frozenset[str]] = frozenset({"integer", "number", "string"})

    kind: Literal["intervals"] = "intervals"
    domain: tuple[int, int] = Field(description="The first and the last whole number there can be.")
    edges: tuple[tuple[int, ...], ...] | None = Field(
        default=None, description="Lower bounds of the ranges, level by level, finest first."
    )
    every: tuple[int, ...] | None = Field(default=None, description="Widths of the ranges, level by level.")

    @model_validator(mode="after")
    def _is_a_tree(self) -> Self:
        low, high = self.domain
        if not low < high:
            raise ValueError("domain is the first and the last number, ascending")
        if (self.edges is None) == (self.every is None):
            raise ValueError("give either `edges` or `every`")
        if self.every is not None:
            self._check_widths(self.every)
        for edges in self.edges or ():
            if not edges or edges[0] != low or edges[-1] > high:
                raise ValueError(f"the edges of every level begin with {low}, the domain's first number, and end in it")
            if not all(a < b for a, b in pairwise(edges)):
                raise ValueError("edges must ascend")
        for finer, coarser in pairwise(self.edges or ()):
            if not set(coarser) < set(finer):
                raise ValueError("the edges of a coarser level are some of those of the finer one, and fewer")
        if not self.lower_bounds:
            raise ValueError("give at least one level of ranges")
        return self

    @staticmethod
    def _check_widths(widths: Sequence[int]) -> None:
        if any(width < 1 for width in widths):
            raise ValueError("a width of `every` is at least 1")
        if any(coarse % fine or coarse == fine for fine, coarse in pairwise(widths)):
            raise ValueError("each width of `every` is a multiple of the one before")

    @cached_property
    def lower_bounds(self) -> tuple[tuple[int, ...], ...]:
        """The lower bounds of the ranges, level by level, finest first."""
        if self.edges is not None:
            return self.edges
        low, high = self.domain
        return tuple(tuple(range(low, high + 1, width)) for width in self.every or ())

    @property
    def title(self) -> str:
        """What messages call it."""
        return "an interval hierarchy"

    @property
    def levels(self) -> tuple[str, ...]:
        """`level_0`, the number itself, then the ranges, then `*`."""
        return (*(f"level_{n}" for n in range(len(self.lower_bounds) + 1)), ANY)

    @property
    def leaf(self) -> str:
        """`level_0`."""
        return LEAF

    def _ranges(self, level: str) -> tuple[str, ...]:
        """The labels of a level of ranges, ascending."""
        bounds = self.lower_bounds[self.position(level) - 1]
        if self.edges is not None:
            return range_labels(bounds)
        return range_labels((*bounds, self.domain[1] + 1), open_ended=False)

    def generalize(self, column: pl.Expr, level: str) -> pl.Expr:
        """The number as it is, its range, or `*`."""
        at = self.position(level)
        if level == ANY:
            return anything(column)
        number = finite(column)
        low, high = self.domain
        known = (number >= low) & (number < high + 1)
        if at == 0:
            label = column.cast(pl.String)
        else:
            texts = pl.lit(pl.Series(self._ranges(level), dtype=pl.String))
            reached = range_index(number, self.lower_bounds[at - 1])
            label = texts.gather(pl.when(known).then(reached - 1).otherwise(0))
        return pl.when(known).then(label).when(column.is_not_null()).then(pl.lit(ANY))

    def coarsen(self, labels: pl.Expr, finest: str, level: str) -> pl.Expr:
        """From numbers to ranges, or from range to range."""
        self.between(finest, level)
        if level == ANY:
            return anything(labels)
        if finest == level:
            return labels
        if finest == LEAF:
            return self.generalize(labels, level)
        bounds = self.lower_bounds[self.position(level) - 1]
        coarse = self._ranges(level)
        parents = {
            label: coarse[sum(edge >= bound for bound in bounds) - 1]
            for label, edge in zip(self._ranges(finest), self.lower_bounds[self.position(finest) - 1], strict=True)
        }
        return labels.replace_strict(parents, default=labels, return_dtype=pl.String)

    def leaves(self, labels: pl.Series, finest: str, level: str) -> tuple[pl.Series, int]:
        """Whole numbers in the range, and in the domain."""
        low, high = self.domain
        total = high - low + 1
        if level in (ANY, LEAF):
            return pl.repeat(total if level == ANY else 1, len(labels), dtype=pl.Float64, eager=True), total
        bounds = (*self.lower_bounds[self.position(level) - 1], high + 1)
        sizes = {label: float(b - a) for label, (a, b) in zip(self._ranges(level), pairwise(bounds), strict=True)}
        groups = labels.to_frame("v").select(self.coarsen(pl.col("v"), finest, level)).to_series()
        return groups.replace_strict(sizes, default=None, return_dtype=pl.Float64), total

    def labels(self, level: str) -> frozenset[str] | None:
        """The ranges and `*`; not known for the numbers themselves."""
        at = self.position(level)
        if level == ANY:
            return frozenset((ANY,))
        return frozenset((*self._ranges(level), ANY)) if at else None

    def shape(self, level: str) -> str | None:
        """A number."""
        return r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?" if level == LEAF else None

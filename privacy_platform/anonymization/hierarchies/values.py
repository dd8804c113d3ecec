"""The value itself or nothing: the hierarchy of what has no groups worth naming."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from privacy_platform.anonymization.hierarchies.base import ANY, Hierarchy, anything

__all__ = ["Values"]

LEAF = "value"


class Values(BaseModel, Hierarchy):
    """Two levels: `value`, the value as text, and `*`. A leaf is a value that occurs."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    fits: ClassVar[frozenset[str]] = frozenset({"string", "integer", "boolean"})

    kind: Literal["value"] = "value"

    @property
    def title(self) -> str:
        """What messages call it."""
        return "a hierarchy of values"

    @property
    def levels(self) -> tuple[str, ...]:
        """`value`, then `*`."""
        return (LEAF, ANY)

    @property
    def leaf(self) -> str:
        """`value`."""
        return LEAF

    def generalize(self, column: pl.Expr, level: str) -> pl.Expr:
        """The value as text, or `*`."""
        return anything(column) if self.position(level) else column.cast(pl.String)

    def coarsen(self, labels: pl.Expr, finest: str, level: str) -> pl.Expr:
        """The label, or `*`."""
        self.between(finest, level)
        return anything(labels) if level == ANY else labels

    def leaves(self, labels: pl.Series, finest: str, level: str) -> tuple[pl.Series, int]:
        """One, or all that occur."""
        total = labels.drop_nulls().n_unique()
        under = 1 if self.position(level) == 0 else total
        return pl.repeat(under, len(labels), dtype=pl.Float64, eager=True), total

    def labels(self, level: str) -> frozenset[str] | None:
        """Not known beforehand, but for `*`."""
        return frozenset((ANY,)) if self.position(level) else None

"""Prefixes of codes: postal codes, diagnosis codes, occupation codes."""

from itertools import pairwise
from typing import ClassVar, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from privacy_platform.anonymization.hierarchies.base import ANY, Hierarchy, anything

__all__ = ["Prefixes"]

LEAF = "code"


class Prefixes(BaseModel, Hierarchy):
    """The first characters of a code, then `*`: levels `code` (itself), `prefix_3`, `prefix_2`, …, `*`.

    A code is compared in capitals, without blanks and dashes. One that has other characters than ASCII letters,
    digits and dots is `*`; so is, above `code`, one that is no longer than the longest prefix. A label is as wide as
    the longest prefix and two more: `921**`, `92***`; the stars do not tell how long the code was. A leaf is a code
    (or a prefix of the finest level in use) that occurs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    fits: ClassVar[frozenset[str]] = frozenset({"string", "integer"})

    kind: Literal["prefix"] = "prefix"
    lengths: tuple[int, ...] = Field(min_length=1, description="How many characters are kept, level by level.")

    @model_validator(mode="after")
    def _descends(self) -> Self:
        if self.lengths[-1] < 1 or any(fine <= coarse for fine, coarse in pairwise(self.lengths)):
            raise ValueError("write how many characters are kept from fine to coarse, e.g. [3, 2, 1]")
        return self

    @property
    def title(self) -> str:
        """What messages call it."""
        return "a prefix hierarchy"

    @property
    def levels(self) -> tuple[str, ...]:
        """`code`, then the prefixes, then `*`."""
        return (LEAF, *(f"prefix_{length}" for length in self.lengths), ANY)

    @property
    def leaf(self) -> str:
        """`code`."""
        return LEAF

    def _stars(self, kept: int) -> str:
        return ANY * (self.lengths[0] + 2 - kept)

    def generalize(self, column: pl.Expr, level: str) -> pl.Expr:
        """The code or its prefix with stars."""
        at = self.position(level)
        if level == ANY:
            return anything(column)
        code = column.cast(pl.String).str.to_uppercase().str.replace_all(r"[ -]", "")
        least = 1 if at == 0 else self.lengths[0] + 1
        known = code.str.contains(f"^[0-9A-Z.]{{{least},}}$")
        label = code if at == 0 else self._label(code, at)
        return pl.when(known).then(label).when(code.is_not_null()).then(pl.lit(ANY))

    def _label(self, code: pl.Expr, at: int) -> pl.Expr:
        kept = self.lengths[at - 1]
        return code.str.head(kept) + pl.lit(self._stars(kept))

    def coarsen(self, labels: pl.Expr, finest: str, level: str) -> pl.Expr:
        """A shorter prefix."""
        self.between(finest, level)
        if level == ANY:
            return anything(labels)
        if finest == level:
            return labels
        if finest == LEAF:
            return self.generalize(labels, level)
        return pl.when(labels == ANY).then(labels).otherwise(self._label(labels, self.position(level)))

    def leaves(self, labels: pl.Series, finest: str, level: str) -> tuple[pl.Series, int]:
        """How many of the labels that occur are under the prefix, and how many there are."""
        frame = labels.to_frame("v").with_columns(self.coarsen(pl.col("v"), finest, level).alias("g"))
        known = pl.when(pl.col("v") != ANY).then(pl.col("v"))
        total = int(frame.select(known.drop_nulls().n_unique()).item())
        under = known.drop_nulls().n_unique().over("g").cast(pl.Float64)
        return frame.select(under).to_series(), total

    def labels(self, level: str) -> frozenset[str] | None:
        """Not known beforehand, but for `*`."""
        self.position(level)
        return frozenset((ANY,)) if level == ANY else None

    def shape(self, level: str) -> str | None:
        """Prefix and stars."""
        at = self.position(level)
        if at == 0:
            return "[0-9A-Z.]+"
        kept = self.lengths[at - 1]
        return f"[0-9A-Z.]{{{kept}}}" + r"\*" * len(self._stars(kept))

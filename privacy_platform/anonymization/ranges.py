"""Ranges of numbers by their lower bounds, as `bucket` and interval hierarchies share them."""

from collections.abc import Sequence
from itertools import pairwise

import polars as pl

__all__ = ["finite", "range_index", "range_labels"]


def range_labels(edges: Sequence[int | float], *, open_ended: bool = True) -> tuple[str, ...]:
    """One label a range, in ascending order: whole numbers as `0-17`, others as `0.5-<1.5`, the open end as `65+`.

    Args:
        edges: Lower bounds, ascending. A range includes its bound and excludes the next.
        open_ended: Whether the last edge begins a range without end; if not, it ends the last range.
    """
    whole = all(float(edge).is_integer() for edge in edges)
    labels = []
    for low, high in pairwise(edges):
        if whole:
            labels.append(f"{int(low)}" if high - low == 1 else f"{int(low)}-{int(high) - 1}")
        else:
            labels.append(f"{low:g}-<{high:g}")
    if open_ended:
        labels.append(f"{edges[-1]:.15g}+")
    return tuple(labels)


def finite(column: pl.Expr) -> pl.Expr:
    """The column as Float64; null for what is no finite number."""
    number = column.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def range_index(number: pl.Expr, edges: Sequence[int | float]) -> pl.Expr:
    """How many edges each number has reached (UInt32): 0 below the first. Null stays null."""
    reached = pl.sum_horizontal([(number >= edge).cast(pl.UInt32) for edge in edges])
    return pl.when(number.is_not_null()).then(reached)

"""How far released figures are from the exact ones: by measure, and by the size of the group.

What comes out is made of exact figures and so is not private itself.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

__all__ = ["SIZES", "MeasureUtility", "compare"]

# Groups of at least so many people, and of fewer than the next.
SIZES = (0, 10, 100, 1000)


@dataclass(frozen=True, kw_only=True)
class MeasureUtility:
    """How good a measure is in groups of a size.

    Attributes:
        measure: the figure's column.
        people_from: groups of at least so many people, and of fewer than the next size.
        cells: groups compared.
        hidden: groups that are in the data, and are not shown.
        promised_error: median of the 95 % errors promised with the figures: of noise alone.
        measured_error: the 95th percentile of the absolute errors: of noise, and of what bounding took.
        within_promise: share of the groups whose error is within the promise.
        median_relative_error: median of absolute error by exact figure, where that is not zero.
    """

    measure: str
    people_from: int
    cells: int
    hidden: int
    promised_error: float | None
    measured_error: float | None
    within_promise: float | None
    median_relative_error: float | None


def compare(
    released: pl.DataFrame,
    exact: pl.DataFrame,
    *,
    dimensions: Sequence[str],
    figures: Sequence[str],
    people: str,
    counts: Collection[str],
) -> list[MeasureUtility]:
    """Hold released figures against exact ones.

    Args:
        released: dimensions, figures, and of each its promise in `<figure>_error_95`. A figure of null says nothing
            and is not compared.
        exact: dimensions, figures and `people`, the number of people in the group.
        dimensions: columns that name a group; null is a value.
        figures: what is compared.
        people: name of that column.
        counts: the figures that are zero in a group that the exact table does not have; others have no value there.
    """
    both = released.join(exact, on=list(dimensions), how="left", suffix="_exact", nulls_equal=True)
    both = both.with_columns(
        pl.col(people).fill_null(0), *(pl.col(f"{name}_exact").fill_null(0) for name in figures if name in counts)
    )
    hidden = exact.join(released, on=list(dimensions), how="anti", nulls_equal=True)
    return [row for figure in figures for row in _sizes(both, hidden, figure, people)]


def _sizes(both: pl.DataFrame, hidden: pl.DataFrame, figure: str, people: str) -> Iterator[MeasureUtility]:
    error = (pl.col(figure).cast(pl.Float64) - pl.col(f"{figure}_exact").cast(pl.Float64)).abs()
    exact = pl.col(f"{figure}_exact").cast(pl.Float64).abs()
    promised = pl.col(f"{figure}_error_95").cast(pl.Float64)
    for least, most in zip(SIZES, (*SIZES[1:], None), strict=True):
        size = pl.col(people) >= least if most is None else pl.col(people).is_between(least, most, closed="left")
        # Before anything else: a figure that says nothing promises nothing.
        told = both.filter(size & error.is_not_null() & promised.is_not_null())
        row = told.select(
            promised=promised.median(),
            measured=error.quantile(0.95, interpolation="higher"),
            within=(error <= promised).mean(),
            relative=(error.filter(exact > 0) / exact.filter(exact > 0)).median(),
        ).row(0, named=True)
        yield MeasureUtility(
            measure=figure,
            people_from=least,
            cells=told.height,
            hidden=hidden.filter(size).height,
            promised_error=row["promised"],
            measured_error=row["measured"],
            within_promise=row["within"],
            median_relative_error=row["relative"],
        )

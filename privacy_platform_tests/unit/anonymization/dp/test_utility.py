"""Released figures against exact ones, on tables small enough to reckon by hand."""

import polars as pl
import pytest

from privacy_platform.anonymization.dp.utility import SIZES, MeasureUtility, compare

EXACT = pl.DataFrame(
    {
        "region": ["a", "b", None, "d", "e"],
        "n": [1000, 2000, 50, 5, 3],
        "mean": [10.0, 20.0, 30.0, None, 1.0],
        "_people": [1000, 2000, 50, 5, 3],
    }
)
RELEASED = pl.DataFrame(
    {
        "region": ["a", "b", None, "d", "f"],
        "n": [1010, 1900, 51, 9, 2],
        "n_error_95": [20.0, 20.0, 20.0, 3.0, 20.0],
        "mean": [11.0, 20.5, None, 7.0, 1.0],
        "mean_error_95": [0.5, 0.5, None, 2.0, 2.0],
    }
)


def found(measure: str, people_from: int) -> MeasureUtility:
    rows = compare(RELEASED, EXACT, dimensions=["region"], figures=["n", "mean"], people="_people", counts={"n"})
    assert [row.people_from for row in rows if row.measure == measure] == list(SIZES)
    return next(row for row in rows if (row.measure, row.people_from) == (measure, people_from))


def test_errors_are_of_exact_figures_by_size_of_the_group() -> None:
    large = found("n", 1000)
    assert (large.cells, large.hidden, large.promised_error, large.measured_error) == (2, 0, 20.0, 100.0)
    assert large.within_promise == 0.5
    assert large.median_relative_error == pytest.approx((0.01 + 0.05) / 2)
    assert found("n", 10).measured_error == 1.0  # the group without a region is one like any other
    assert found("n", 100).cells == 0
    assert found("n", 100).median_relative_error is None


def test_groups_that_are_not_there_count_nothing() -> None:
    small = found("n", 0)
    assert (small.cells, small.hidden) == (2, 1)  # d and f are shown, e is not
    assert small.within_promise == 0.5
    assert small.median_relative_error == pytest.approx(4 / 5)  # nothing is relative to the zero of f
    # The mean of d is not defined and f does not exist: there is nothing to compare with.
    assert found("mean", 0).cells == 0


def test_what_says_nothing_is_not_compared() -> None:
    assert found("mean", 10).cells == 0
    assert found("mean", 1000).measured_error == 1.0

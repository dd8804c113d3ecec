"""Working on distinct texts: the same answer as working on all, and the work of few where texts repeat."""

import polars as pl
import pytest

from privacy_platform.anonymization import distinct
from privacy_platform.anonymization.distinct import for_each_distinct


def worked_on(texts: pl.Series) -> int:
    """How many texts the kernel was given, having seen that all came out right."""
    given: list[int] = []

    def kernel(values: pl.Series) -> pl.Series:
        given.append(len(values))
        return values + "!"

    made = texts.to_frame("t").select(for_each_distinct(pl.col("t"), kernel)).to_series()
    assert made.equals(texts + "!")
    return sum(given)


def drawn(rows: int, *, of: int) -> pl.Series:
    texts = (pl.int_range(rows, eager=True).hash(seed=1) % of).cast(pl.String)
    return pl.select(pl.when(texts != "7").then(texts)).to_series()  # some are null


@pytest.mark.parametrize("rows", [100, 50_000, 200_000])
def test_texts_that_repeat_are_worked_on_once(rows: int) -> None:
    assert worked_on(drawn(rows, of=rows // 10)) <= rows // 10
    assert worked_on(drawn(rows, of=rows)) == rows


@pytest.mark.parametrize("repeats", [3, 6])
def test_repeats_pay_from_four_on(repeats: int) -> None:
    rows = 100_000
    assert (worked_on(drawn(rows, of=rows // repeats)) < rows) == (repeats > 4)


@pytest.mark.parametrize("rows", [5_000, 50_000, 200_000])
def test_the_first_texts_tell_whether_to_look_at_all(rows: int) -> None:
    assert distinct._may_repeat(drawn(rows, of=rows // 5))
    assert not distinct._may_repeat(drawn(rows, of=rows * 10))


def test_texts_that_stand_together_are_worked_on_once() -> None:
    texts = drawn(10_000, of=10_000).sort()
    assert worked_on(pl.concat([texts] * 8).sort()) <= 10_000

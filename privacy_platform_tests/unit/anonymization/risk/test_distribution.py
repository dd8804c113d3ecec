"""What is left of a column: labels stand for the original values beneath them, and nothing else counts as a change."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.recoding import Recoding
from privacy_platform.anonymization.kanonymity.tuples import Tuples
from privacy_platform.anonymization.risk.distribution import ColumnUtility, column_utility, recoding_utility
from privacy_platform.anonymization.risk.labels import beneath

AGES = Ladder(
    "age",
    ("years", "ranges", "*"),
    (np.array([0, 1, 2, 3], np.int32), np.array([0, 0, 1, 1], np.int32), np.zeros(4, np.int32)),
    (("20", "21", "30", "31"), ("20-29", "30-39"), ("*",)),
    (np.zeros(4), np.array([0.25, 0.25]), np.ones(1)),
)
TUPLES = Tuples(np.arange(4, dtype=np.int32)[:, None], np.array([4, 2, 3, 1]))


def recoding(levels: list[int], suppressed: list[bool], loss: float = 0.5) -> Recoding:
    shaped = np.array(levels, np.int16)
    return Recoding(shaped if len(levels) == 1 else shaped[:, None], np.array(suppressed), loss, (loss,), 0, 1, 1)


def test_generalizing_alone_changes_no_distribution() -> None:
    for level in range(3):
        found = recoding_utility(TUPLES, [AGES], recoding([level], [False] * 4), ordered=["age"])["age"]
        assert (found.total_variation, found.earth_mover, found.loss) == (pytest.approx(0), pytest.approx(0), 0.5)


def test_suppression_does() -> None:
    found = recoding_utility(TUPLES, [AGES], recoding([0], [False, False, False, True]), ordered=["age"])["age"]

    published, original = np.array([4, 2, 3, 0]) / 9, np.array([4, 2, 3, 1]) / 10
    assert found.total_variation == pytest.approx(np.abs(published - original).sum() / 2)
    assert found.earth_mover == pytest.approx(np.abs(np.cumsum(published - original)).sum() / 3)


def test_local_recoding_does_where_levels_differ_within_a_group() -> None:
    # The four of 20 are published as they are; of the others, 21 as 20-29: which a reader spreads over 20 and 21.
    found = recoding_utility(TUPLES, [AGES], recoding([0, 1, 0, 0], [False] * 4))["age"]

    assert found.total_variation == pytest.approx(2 * 4 / 6 / 10)
    assert found.earth_mover is None


def test_a_label_that_stands_for_nothing_is_wholly_wrong() -> None:
    original, published = np.array([5, 5]), np.array([5, 5])

    half = column_utility(original, published, {0: np.array([0])}, ordered=False)

    assert half == ColumnUtility(total_variation=0.5, earth_mover=None, loss=0.5)
    assert column_utility(original, published, {}, ordered=False).total_variation == 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_distances_are_between_nothing_and_everything(original: list[int], data: st.DataObject) -> None:
    size = len(original)
    published = data.draw(st.lists(st.integers(0, 50), min_size=size, max_size=size))
    exact = {i: np.array([i]) for i in range(size)}

    found = column_utility(np.array(original), np.array(published), exact, ordered=True)

    assert 0 <= found.total_variation <= 1 + 1e-12
    assert found.earth_mover is not None
    assert 0 <= found.earth_mover <= 1 + 1e-12
    assert found.loss == 0
    same = column_utility(np.array(original), np.array(original), exact, ordered=True)
    assert same.total_variation == pytest.approx(0)


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("25", [2]),
        ("18-24", [0, 1]),
        ("18 – 25", [0, 1, 2]),
        ("25+", [2, 3]),
        (">= 25", [2, 3]),
        ("<18", []),
        ("[18, 25[", [0, 1]),
        ("]18; 25]", [1, 2]),
        ("(18, 25]", [1, 2]),
        ("*", [0, 1, 2, 3]),
        ("West", []),
    ],
)
def test_labels_of_numbers(label: str, values: list[int]) -> None:
    assert beneath(pl.Series([18, 24, 25, 70]), pl.Series([label])).get(0, np.array([])).tolist() == values


def test_labels_of_codes_dates_and_nulls() -> None:
    codes = beneath(pl.Series(["92101", "92102", "90001", "921", None]), pl.Series(["921**", "9****", "92101", None]))
    assert {label: values.tolist() for label, values in codes.items()} == {0: [0, 1], 1: [0, 1, 2], 2: [0], 3: [4]}

    days = beneath(pl.Series(["2024-03-05", "2024-04-01"]).str.to_date(), pl.Series(["2024", "2024-03", "2025"]))
    assert {label: values.tolist() for label, values in days.items()} == {0: [0, 1], 1: [0]}

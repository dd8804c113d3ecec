"""The search for identifying combinations equals looking at every set of columns."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_platform.anonymization.risk.singling import single_out


def by_hand(
    rows: list[tuple[int, ...]], counts: list[int], threshold: float, max_size: int
) -> dict[tuple[int, ...], int]:
    """Every set of columns, the smallest first; none that contains one that was found."""
    found: dict[tuple[int, ...], int] = {}
    for size in range(1, max_size + 1):
        for columns in combinations(range(len(rows[0])), size):
            if any(set(smaller) <= set(columns) for smaller in found):
                continue
            classes: Counter[tuple[int, ...]] = Counter()
            for row, count in zip(rows, counts, strict=True):
                classes[tuple(row[c] for c in columns)] += count
            unique = sum(records == 1 for records in classes.values())
            if unique > threshold * sum(counts):
                found[columns] = unique
    return found


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], list[int]]:
    width = draw(st.integers(1, 6))
    cells = [st.integers(0, draw(st.integers(0, 9))) for _ in range(width)]
    rows = draw(st.lists(st.tuples(*cells), min_size=1, max_size=60))
    counts = draw(st.lists(st.integers(1, 3), min_size=len(rows), max_size=len(rows)))
    return rows, counts


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([0.0, 0.01, 0.1, 0.3]), st.integers(1, 4))
def test_it_finds_all_minimal_sets_and_no_others(
    table: tuple[list[tuple[int, ...]], list[int]], threshold: float, max_size: int
) -> None:
    rows, counts = table
    names = [f"c{i}" for i in range(len(rows[0]))]

    found = single_out(names, np.array(rows, np.int32), np.array(counts), threshold=threshold, max_size=max_size)

    expected = by_hand(rows, counts, threshold, max_size)
    assert {tuple(int(name[1:]) for name in c.columns): c.records for c in found.combinations} == expected
    assert found.complete_to == max_size
    sizes = [len(c.columns) for c in found.combinations]
    assert sizes == sorted(sizes)


def test_columns_of_many_values_are_counted_too() -> None:
    # 1,000 by 1,000 values do not fit an array of counters: the other way of counting is used.
    draw = np.random.default_rng(1)
    codes = draw.integers(0, 1000, (3000, 2)).astype(np.int32)

    found = single_out(["a", "b"], codes, np.ones(3000, np.int64), threshold=0.2)

    classes = Counter(map(tuple, codes.tolist()))
    assert [(c.columns, c.records) for c in found.combinations] == [
        (("a", "b"), sum(records == 1 for records in classes.values()))
    ]


def test_a_search_that_would_take_too_long_stops_between_sizes_and_says_so() -> None:
    draw = np.random.default_rng(2)
    codes = draw.integers(0, 4, (200, 8)).astype(np.int32)
    names = [f"c{i}" for i in range(8)]
    # 8 sets of one column and 28 of two are affordable; the 56 of three are not.
    found = single_out(names, codes, np.ones(200, np.int64), max_work=200 * (8 + 28 + 55))

    assert found.complete_to == 2
    assert all(len(c.columns) <= 2 for c in found.combinations)


@pytest.mark.parametrize("width", [0, 3])
def test_nothing_to_find(width: int) -> None:
    found = single_out([f"c{i}" for i in range(width)], np.zeros((4, width), np.int32), np.ones(4, np.int64))

    assert found.combinations == ()
    assert found.all_columns == 0

"""What classes show: figures of the literature, and every definition again by a loop over records."""

import math
from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_platform.anonymization.kanonymity.evaluate import classes_of, failing, measure, unpublishable
from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness
from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples


def table(records):
    """Tuples of records (group, value), one tuple a group, and the groups."""
    values = sorted({value for _, value in records})
    groups = sorted({group for group, _ in records})
    cells = Counter((groups.index(group), values.index(value)) for group, value in records)
    sensitive = Sensitive(
        len(values),
        np.array([group for group, _ in cells], np.int64),
        np.array([value for _, value in cells], np.int32),
        np.array(list(cells.values()), np.int64),
    )
    counts = np.array([sum(one == group for one, _ in records) for group in groups], np.int64)
    return np.arange(len(groups)), Tuples(np.zeros((len(groups), 0), np.int32), counts, {"s": sensitive})


def classes(*values):
    return [(group, value) for group, several in enumerate(values) for value in several]


# The salaries of table 3 of the paper on t-closeness (Li, Li & Venkatasubramanian 2007), in thousands.
SALARIES = classes([3, 4, 5], [6, 11, 8], [7, 9, 10])


def test_t_of_the_paper():
    groups, tuples = table(SALARIES)
    assert measure(groups, 3, tuples).sensitive["s"].t_ordered == pytest.approx(0.375)
    verdict = failing(groups, 3, tuples, Requirements(1, {"s": (TCloseness(0.3, "ordered"),)}))
    assert verdict.tolist() == [True, False, False]  # 0.375, 0.167, 0.236


def test_entropy_that_holds_exactly_is_not_broken_by_rounding():
    groups, tuples = table(classes("abc" * 7, "abcd", "aab"))
    verdict = failing(groups, 3, tuples, Requirements(1, {"s": (LDiversity(3, "entropy"),)}))
    assert verdict.tolist() == [False, False, True]


def test_recursive_counts_the_most_frequent_value_against_the_rare_ones():
    groups, tuples = table(classes("aaabbc", "aabbcc", "ab"))
    needs = Requirements(1, {"s": (LDiversity(2, "recursive", 1.0),)})
    assert failing(groups, 3, tuples, needs).tolist() == [True, False, True]  # 3 < 3, 2 < 4, 1 < 1
    assert measure(groups, 3, tuples, recursive_l={"s": 2}).sensitive["s"].recursive_c == 1
    assert measure(groups, 3, tuples, recursive_l={"s": 3}).sensitive["s"].recursive_c == math.inf


def test_what_is_not_published_is_in_no_class():
    groups, tuples = table(classes("abc", "aa", "aaaa"))
    published = np.array([True, False, True])
    needs = Requirements(4, {"s": (LDiversity(2),)})
    assert failing(groups, 3, tuples, needs, published).tolist() == [True, False, True]
    measured = measure(groups, 3, tuples, published=published)
    assert (measured.k, measured.classes, measured.sensitive["s"].distinct_l) == (3, 2, 1)
    assert measure(groups, 3, tuples, published=np.zeros(3, np.bool_)).k == 0


def test_t_looks_at_the_values_that_are_still_shown():
    groups, tuples = table(classes("ac", "ac", "b"))
    assert measure(groups, 3, tuples, published=np.array([True, True, False])).sensitive["s"].t_ordered == 0


def test_suppression_shifts_what_t_is_measured_against():
    # Without the class of one record, which k takes out first, the share of `a` is 5/8 and not 5/9.
    groups, tuples = table(classes("aaab", "aabb", "b"))
    needs = Requirements(2, {"s": (TCloseness(0.18),)})
    assert failing(groups, 3, tuples, needs).tolist() == [True, False, True]
    assert unpublishable(classes_of(groups, 3, tuples), needs).tolist() == [False, False, True]


def test_suppression_goes_on_until_nothing_fails():
    groups, tuples = table(classes("a" * 12 + "b" * 8, "a" * 5 + "b" * 5, "bbbbbb", "bb"))
    needs = Requirements(1, {"s": (TCloseness(0.3),)})
    out = unpublishable(classes_of(groups, 4, tuples), needs)
    assert not failing(groups, 4, tuples, needs, ~out[groups]).any()
    assert out.tolist() == [False, False, True, True]


def by_hand(records):
    """The definitions, class by class and value by value."""
    values = sorted({value for _, value in records})
    total = Counter(value for _, value in records)
    figures = {}
    for group in sorted({group for group, _ in records}):
        own = Counter(value for one, value in records if one == group)
        size = own.total()
        gaps = [own[value] / size - total[value] / len(records) for value in values]
        figures[group] = {
            "k": size,
            "distinct": len(own),
            "entropy": math.exp(-sum(n / size * math.log(n / size) for n in own.values())),
            "ranked": sorted(own.values(), reverse=True),
            "equal": sum(map(abs, gaps)) / 2,
            "ordered": sum(map(abs, accumulate(gaps))) / max(1, len(values) - 1),
        }
    return figures


RECORDS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40)


@given(RECORDS)
def test_measured_as_by_hand(records):
    groups, tuples = table(records)
    expected = list(by_hand(records).values())
    measured = measure(groups, len(groups), tuples)
    figures = measured.sensitive["s"]
    assert measured.k == min(one["k"] for one in expected)
    assert measured.classes == len(expected)
    assert figures.distinct_l == min(one["distinct"] for one in expected)
    assert figures.entropy_l == pytest.approx(min(one["entropy"] for one in expected))
    at = figures.distinct_l
    assert figures.recursive_c == pytest.approx(
        max(one["ranked"][0] / sum(one["ranked"][at - 1 :]) for one in expected)
    )
    assert figures.t_equal == pytest.approx(max(one["equal"] for one in expected), abs=1e-12)
    assert figures.t_ordered == pytest.approx(max(one["ordered"] for one in expected), abs=1e-12)


@given(RECORDS, st.integers(1, 6), st.integers(1, 4), st.sampled_from([0.5, 1.0, 2.5]), st.floats(0.01, 0.6))
def test_failing_as_by_hand(records, k, diversity, c, t):
    groups, tuples = table(records)
    models = {
        LDiversity(diversity): lambda one: one["distinct"] >= diversity,
        LDiversity(diversity, "entropy"): lambda one: one["entropy"] > diversity - 1e-8,
        LDiversity(diversity, "recursive", c): lambda one: one["ranked"][0] < c * sum(one["ranked"][diversity - 1 :]),
        TCloseness(t): lambda one: one["equal"] <= t + 1e-9,
        TCloseness(t, "ordered"): lambda one: one["ordered"] <= t + 1e-9,
    }
    for model, holds in models.items():
        expected = [not (one["k"] >= k and holds(one)) for one in by_hand(records).values()]
        verdict = failing(groups, len(groups), tuples, Requirements(k, {"s": (model,)}))
        assert verdict.tolist() == expected, model


@given(RECORDS, st.integers(1, 4), st.floats(0.01, 0.6), st.sampled_from(["equal", "ordered"]))
def test_after_suppression_nothing_fails(records, k, t, distance):
    groups, tuples = table(records)
    needs = Requirements(k, {"s": (TCloseness(t, distance),)})
    out = unpublishable(classes_of(groups, len(groups), tuples), needs)
    assert not failing(groups, len(groups), tuples, needs, ~out[groups]).any()
    assert out[failing(groups, len(groups), tuples, Requirements(k))].all()

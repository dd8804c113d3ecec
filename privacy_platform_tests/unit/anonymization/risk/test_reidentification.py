"""Prosecutor, journalist and marketer risk by their definitions, on figures that can be followed by hand."""

import numpy as np
import pytest

from privacy_platform.anonymization.risk.reidentification import (
    Attack,
    ClassSizes,
    class_sizes,
    journalist,
    marketer,
    prosecutor,
)

COUNTS = np.array([1, 1, 2, 4, 12])


def test_sizes() -> None:
    sizes = class_sizes(COUNTS)

    assert sizes == ClassSizes(((1, 2), (2, 1), (4, 1), (12, 1)))
    assert (sizes.records, sizes.classes, sizes.smallest, sizes.largest) == (20, 5, 1, 12)
    assert [sizes.records_between(1, 1), sizes.records_between(2, 4), sizes.records_between(5)] == [2, 6, 12]


def test_prosecutor() -> None:
    # A record of a class of f records is found with 1/f; eight of twenty are in classes smaller than five.
    assert prosecutor(class_sizes(COUNTS), 1 / 5) == Attack(highest=1.0, average=5 / 20, at_risk=8 / 20)


def test_a_class_of_exactly_k_is_not_at_risk() -> None:
    assert prosecutor(class_sizes(np.array([5, 7])), 1 / 5).at_risk == 0
    assert journalist(np.array([5, 7]), np.array([5, 7]), 1 / 5).at_risk == 0


def test_without_a_population_the_journalist_is_the_prosecutor() -> None:
    assert journalist(COUNTS, COUNTS, 1 / 5) == prosecutor(class_sizes(COUNTS), 1 / 5)
    assert marketer(COUNTS, COUNTS) == 5 / 20


def test_a_population_lowers_the_risk_to_that_of_its_classes() -> None:
    people = np.array([10, 2, 20, 4, 24])

    attack = journalist(COUNTS, people, 1 / 5)

    matched = (1 / 10 + 1 / 2 + 2 / 20 + 4 / 4 + 12 / 24) / 20
    assert attack == Attack(highest=1 / 2, average=max(5 / 60, matched), at_risk=(1 + 4) / 20)
    assert marketer(COUNTS, people) == pytest.approx(matched)


def test_a_class_is_never_smaller_in_the_population_than_in_the_table() -> None:
    # Else a population that lacks somebody would make the risk infinite.
    assert journalist(COUNTS, np.zeros(5, np.int64), 1 / 5) == prosecutor(class_sizes(COUNTS), 1 / 5)


def test_an_empty_table_has_no_risk() -> None:
    nothing = np.array([], np.int64)

    assert prosecutor(class_sizes(nothing), 0.2) == journalist(nothing, nothing, 0.2) == Attack(0.0, 0.0, 0.0)
    assert marketer(nothing, nothing) == 0
    assert class_sizes(nothing).smallest == 0

"""What must be left out below a node: never more than what is left out at any node there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_platform.anonymization.kanonymity.bounds import least_removed
from privacy_platform.anonymization.kanonymity.evaluate import classes_of, unpublishable
from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness
from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples

MODELS = st.one_of(
    st.builds(LDiversity, st.integers(1, 3)),
    st.builds(LDiversity, st.sampled_from([1.5, 2, 2.5, 3]), st.just("entropy")),
    st.builds(LDiversity, st.integers(1, 3), st.just("recursive"), st.sampled_from([0.5, 1.0, 2.0, 3.0])),
    st.builds(TCloseness, st.sampled_from([0.05, 0.1, 0.2, 0.3]), st.sampled_from(["equal", "ordered"])),
)


def table(cells):
    """Tuples with these counts of each sensitive value, one row a tuple."""
    counts = np.array(cells, np.int64)
    row, value = np.nonzero(counts)
    sensitive = Sensitive(counts.shape[1], row.astype(np.int64), value.astype(np.int32), counts[row, value])
    return Tuples(np.zeros((len(counts), 0), np.int32), counts.sum(axis=1), {"s": sensitive})


CELLS = st.lists(
    st.lists(st.sampled_from([0, 0, 1, 2, 3, 5, 9]), min_size=4, max_size=4).filter(any), min_size=1, max_size=8
)


@settings(max_examples=600, deadline=None)
@given(CELLS, st.lists(st.integers(0, 2), min_size=8, max_size=8), st.integers(1, 6), MODELS)
def test_finer_classes_leave_out_at_least_that(cells, parents, k, model):
    tuples, parent = table(cells), np.array(parents[: len(cells)])
    requirements = Requirements(k, {"s": (model,)})
    fine = np.arange(len(cells))
    out = unpublishable(classes_of(fine, len(cells), tuples), requirements)
    limit = int(tuples.counts[out].sum())
    least = least_removed(classes_of(parent, 3, tuples), requirements, limit)
    assert (least <= np.bincount(parent, np.where(out, tuples.counts, 0), 3)).all()


@pytest.mark.parametrize(
    ("model", "cells", "expected"),
    [
        (LDiversity(2, "entropy"), [9, 3, 0], 6),  # down to 3 and 3
        (LDiversity(2, "entropy"), [9, 0, 0], 9),
        (LDiversity(2, "recursive", 2.0), [9, 3, 0], 4),  # 5 < 2 · 3
        (LDiversity(3, "recursive", 1.0), [9, 3, 2], 14),  # r1 < r3 is never so
        (TCloseness(0.1), [12, 0, 0], 5),  # from 1/2 away to 1/10, of 12 records
        (LDiversity(2), [4, 0, 0], 4),
    ],
)
def test_least_removed(model, cells, expected):
    others = [[0, 6, 6]] if isinstance(model, TCloseness) else [[5, 5, 5]]
    classes = classes_of(np.arange(2), 2, table([cells, *others]))
    assert least_removed(classes, Requirements(1, {"s": (model,)}), 0)[0] == expected


def test_a_rest_smaller_than_k_goes_as_well():
    classes = classes_of(np.arange(2), 2, table([[9, 3], [5, 5]]))
    needs = [Requirements(k, {"s": (LDiversity(2, "entropy"),)}) for k in (6, 7)]
    assert [least_removed(classes, one, 0)[0] for one in needs] == [6, 12]


@pytest.mark.parametrize(
    ("model", "k", "cells"),
    [
        # The third class goes for k. Without it the table is like the first two, and with it it was not.
        (TCloseness(0.1), 12, [[10, 10], [10, 10], [0, 11]]),
        # As well; with it go all values between the first and the sixth, which were far apart until then.
        (
            TCloseness(0.15, "ordered"),
            10,
            [[99, 0, 0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 99, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0, 0, 0, 0, 0]],
        ),
    ],
)
def test_what_is_left_of_the_table_can_be_nearer(model, k, cells):
    classes = classes_of(np.arange(3), 3, table(cells))
    requirements = Requirements(k, {"s": (model,)})
    assert unpublishable(classes, requirements).tolist() == [False, False, True]
    limit = sum(cells[2])
    assert least_removed(classes, requirements, limit).tolist() == [0, 0, limit]
    assert (least_removed(classes, requirements, 0)[:2] > 0).any()  # what the whole table would say

"""The search finds what trying every node finds, for every model, limit and pin; and what it says when it cannot."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_platform.anonymization.kanonymity.evaluate import classes_of, failing, unpublishable
from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.lattice import LatticeError, global_recoding
from privacy_platform.anonymization.kanonymity.recoding import UnreachableError
from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness
from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples


def ladder(name, parents, values):
    """A ladder of `values` leaves; `parents` gives each level's group of every group of the level before."""
    codes = [np.arange(values, dtype=np.int32)]
    for parent in parents:
        _, dense = np.unique(np.array(parent)[codes[-1]], return_inverse=True)
        codes.append(dense.astype(np.int32))
    leaves = [np.bincount(level) for level in codes]
    return Ladder(
        name,
        tuple(f"level {i}" for i in range(len(codes))),
        tuple(codes),
        tuple(tuple(f"{i}/{j}" for j in range(len(counts))) for i, counts in enumerate(leaves)),
        tuple((counts - 1) / max(1, values - 1) for counts in leaves),
    )


def tuples_of(records, columns):
    """Tuples of records whose first `columns` values are quasi-identifiers and whose last is sensitive."""
    keys = sorted({record[:columns] for record in records})
    cells = Counter((keys.index(record[:columns]), record[columns]) for record in records)
    sensitive = Sensitive(
        1 + max(value for _, value in cells),
        np.array([key for key, _ in cells], np.int64),
        np.array([value for _, value in cells], np.int32),
        np.array(list(cells.values()), np.int64),
    )
    counts = np.bincount([keys.index(record[:columns]) for record in records]).astype(np.int64)
    return Tuples(np.array(keys, np.int32).reshape(len(keys), columns), counts, {"s": sensitive})


def by_trying_all(tuples, ladders, requirements, allowed=None):
    """The best node, the slow way: (loss, suppressed records, levels), or None."""
    found = []
    allowed = allowed or [range(len(one.levels)) for one in ladders]
    for levels in itertools.product(*allowed):
        labels = [one.codes[level][column] for one, level, column in zip(ladders, levels, tuples.codes.T, strict=True)]
        groups = np.unique(np.array(labels), axis=1, return_inverse=True)[1].reshape(-1)
        size = int(groups.max()) + 1
        out = unpublishable(classes_of(groups, size, tuples), requirements)[groups]
        assert not failing(groups, size, tuples, requirements, ~out).any()
        gone = int(tuples.counts[out].sum())
        if gone > requirements.suppression_limit * tuples.records + 1e-9:
            continue
        ncp = sum(one.losses[level][codes] for one, level, codes in zip(ladders, levels, labels, strict=True))
        loss = (gone + (tuples.counts * ncp)[~out].sum() / len(ladders)) / tuples.records
        found.append((round(float(loss), 10), gone, levels))
    return min(found, default=None)


@st.composite
def tables(draw):
    """Ladders of one to three columns and skewed records over them."""
    ladders = []
    for number in range(draw(st.integers(1, 3))):
        values = draw(st.integers(1, 6))
        parents, width = [], values
        for _ in range(draw(st.integers(0, 3))):
            parents.append(draw(st.lists(st.integers(0, max(0, width - 2)), min_size=values, max_size=values)))
            width = len(set(parents[-1][:width]))
        ladders.append(ladder(f"q{number}", parents, values))
    record = st.tuples(
        *(st.integers(0, len(one.codes[0]) - 1) for one in ladders), st.sampled_from([0, 0, 0, 1, 1, 2, 3])
    )
    repeated = st.lists(st.tuples(record, st.integers(1, 6)), min_size=1, max_size=25)
    records = [one for one, times in draw(repeated) for _ in range(times)]
    return tuples_of(records, len(ladders)), ladders


MODELS = st.one_of(
    st.builds(LDiversity, st.integers(1, 4)),
    st.builds(LDiversity, st.sampled_from([1.5, 2, 3]), st.just("entropy")),
    st.builds(LDiversity, st.integers(1, 3), st.just("recursive"), st.sampled_from([0.5, 1.0, 2.0, 3.0])),
    st.builds(TCloseness, st.sampled_from([0.05, 0.1, 0.2, 0.35, 0.5]), st.sampled_from(["equal", "ordered"])),
)
NEEDS = st.builds(
    Requirements,
    k=st.integers(1, 8),
    sensitive=st.lists(MODELS, max_size=2).map(lambda several: {"s": tuple(several)} if several else {}),
    suppression_limit=st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 1.0]),
)


@settings(max_examples=300, deadline=None)
@given(tables(), NEEDS, st.data())
def test_as_good_as_trying_all(table, requirements, data):
    tuples, ladders = table
    free = [range(len(one.levels)) for one in ladders]
    allowed = [data.draw(st.one_of(st.just(levels), st.sampled_from(levels).map(lambda one: [one]))) for levels in free]
    pinned = {
        one.name: one.levels[levels[0]]
        for one, levels in zip(ladders, allowed, strict=True)
        if isinstance(levels, list)
    }
    expected = by_trying_all(tuples, ladders, requirements, allowed)
    if expected is None:
        with pytest.raises(UnreachableError) as raised:
            global_recoding(tuples, ladders, requirements, pinned=pinned)
        enough = Requirements(requirements.k, requirements.sensitive, raised.value.share)
        assert by_trying_all(tuples, ladders, enough, allowed)
        return
    incumbent = data.draw(st.none() | st.tuples(*(st.integers(0, len(one.levels)) for one in ladders)))
    recoding = global_recoding(tuples, ladders, requirements, pinned=pinned, incumbent=incumbent)
    assert (pytest.approx(recoding.loss), recoding.suppressed_records, tuple(recoding.levels)) == expected
    assert recoding.loss == pytest.approx(sum(recoding.losses) / len(ladders))
    assert recoding.suppressed_records == tuples.counts[recoding.suppressed].sum()


A, B, C = 0, 1, 2


def classes(*values):
    """Records of one quasi-identifier, whose n-th value has these sensitive values."""
    return [(value, one) for value, several in enumerate(values) for one in several]


@pytest.mark.parametrize(
    ("model", "records"),
    [
        (LDiversity(2, "entropy"), classes([A, A, A, A, B, B, B, B], [A, A, A])),
        (LDiversity(2, "recursive", 1.5), classes([A, A, A, A, B, B, B, B], [A, A, A])),
        (TCloseness(0.1), classes([A, A, A, A, B, B, B, B], [A, A, A], [A, A, A, A, B, B, B, B], [B])),
    ],
)
def test_suppression_can_make_the_coarser_node_the_worse_one(model, records):
    # What the search must not assume. For the value 1 merges with 0 (and 3 with 2), and the whole class fails then.
    tuples = tuples_of(records, 1)
    values = len(tuples.counts)
    ladders = [ladder("q", [[0, 0, 2, 2][:values]], values)]
    requirements = Requirements(1, {"s": (model,)}, suppression_limit=0.3)
    assert [by_trying_all(tuples, ladders, requirements, [[level]]) is None for level in (0, 1)] == [False, True]
    assert global_recoding(tuples, ladders, requirements).levels.tolist() == [0]


def test_a_level_that_merges_nothing_is_not_taken():
    wide = ladder("q", [[0, 1, 0, 1], [0, 0]], 4)
    narrow = Ladder(
        "q",
        wide.levels,
        tuple(codes[:2] for codes in wide.codes),  # the values that occur: the first level keeps them apart
        wide.labels,
        wide.losses,
    )
    tuples = tuples_of([(0, A)] * 5 + [(1, A)] * 5, 1)
    assert global_recoding(tuples, [narrow], Requirements(5)).levels.tolist() == [0]
    assert global_recoding(tuples, [narrow], Requirements(5), pinned={"q": "level 1"}).levels.tolist() == [1]


def test_an_empty_table_is_left_as_it_is():
    nothing = Tuples(np.empty((0, 1), np.int32), np.empty(0, np.int64))
    recoding = global_recoding(nothing, [ladder("q", [[0, 0]], 2)], Requirements(5))
    assert (recoding.levels.tolist(), recoding.loss, recoding.classes) == ([0], 0, 0)


def test_many_columns_whose_keys_do_not_fit_64_bits():
    generator = np.random.default_rng(3)
    values, columns = 1000, 9
    codes = np.unique(generator.integers(0, 2, (60, columns)), axis=0).astype(np.int32)
    odd = [list(np.arange(values) % 2)]
    ladders = [ladder(f"q{i}", odd, values) for i in range(columns)]
    tuples = Tuples(codes, generator.integers(1, 4, len(codes)))
    # Level 1 merges nothing that occurs, so each tuple is a class of its own at every node.
    singles = int(tuples.counts[tuples.counts < 2].sum())
    recoding = global_recoding(tuples, ladders, Requirements(2, suppression_limit=1.0))
    assert recoding.suppressed_records == singles
    assert recoding.classes == (tuples.counts >= 2).sum()


def test_too_large_a_lattice_is_refused_with_what_to_pin():
    halving = [list(np.arange(256 >> i) // 2) + [0] * (256 - (256 >> i)) for i in range(8)]
    ladders = [ladder(f"h{i}", halving, 256) for i in range(8)]
    tuples = Tuples(np.zeros((1, 8), np.int32), np.ones(1, np.int64))
    with pytest.raises(LatticeError, match=r"43,046,721 nodes.*pin.*`h0` has most, 9"):
        global_recoding(tuples, ladders, Requirements(1))
    pinned = {f"h{i}": "level 2" for i in range(4)}
    assert global_recoding(tuples, ladders, Requirements(1), pinned=pinned).levels.tolist() == [2, 2, 2, 2, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("pinned", "message"), [({"r": "level 0"}, "`r`.*no quasi-identifier: q"), ({"q": "x"}, "`x`")]
)
def test_a_pin_that_does_not_exist_is_refused(pinned, message):
    with pytest.raises(LatticeError, match=message):
        global_recoding(tuples_of([(0, A)], 1), [ladder("q", [[0, 0]], 2)], Requirements(1), pinned=pinned)


def test_what_cannot_be_reached_names_the_columns_and_what_would_help():
    ladders = [ladder("age", [[0, 0, 0, 0]], 4), ladder("zip", [[0, 0, 1, 1]], 4)]
    records = [(age, 0, A) for age in range(4) for _ in range(5)] + [(0, 3, A)] * 3
    with pytest.raises(UnreachableError) as raised:
        global_recoding(tuples_of(records, 2), ladders, Requirements(5, suppression_limit=0.1))
    error = raised.value
    assert error.share == 3 / 23
    assert error.without == {"age": 3 / 23, "zip": 0}
    assert str(error) == (
        "k = 5 cannot be reached: the least suppression found is 13.0% of the records, and the limit is 10.0%. "
        "The columns that cost most: it would be 0.0% without `zip`. What would help: a coarser last level for `zip`, "
        "or not publishing it; a suppression limit of at least 13.1%; k of at most 3."
    )


def test_the_share_that_would_do_is_looked_for_below_the_top_too():
    # At the top nothing is left to publish, one level down the first class is.
    tuples = tuples_of(classes([A, A, A, A, B, B, B, B], [A, A, A]), 1)
    requirements = Requirements(2, {"s": (LDiversity(2, "entropy"),)}, suppression_limit=0.2)
    with pytest.raises(UnreachableError, match=r"a suppression limit of at least 27.3%") as raised:
        global_recoding(tuples, [ladder("q", [[0, 0]], 2)], requirements)
    assert raised.value.share == 3 / 11


def test_fewer_records_than_k_cannot_be_helped():
    with pytest.raises(UnreachableError, match="more records, or weaker requirements"):
        global_recoding(tuples_of([(0, A)], 1), [ladder("q", [[0]], 1)], Requirements(5))

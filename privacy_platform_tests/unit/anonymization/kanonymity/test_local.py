"""Local recoding: every published class satisfies, labels are the hierarchies', and no global recoding loses less."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_platform.anonymization.kanonymity import lattice
from privacy_platform.anonymization.kanonymity.clusters import Clusters, merge_failing, move, undisputed
from privacy_platform.anonymization.kanonymity.demands import Demands
from privacy_platform.anonymization.kanonymity.evaluate import classes_of, failing, suppressible
from privacy_platform.anonymization.kanonymity.growth import gather
from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.lattice import LatticeError, allowed_levels, global_recoding
from privacy_platform.anonymization.kanonymity.local import local_recoding
from privacy_platform.anonymization.kanonymity.neighbourhoods import regroup
from privacy_platform.anonymization.kanonymity.points import APART, Points, near_order, nearest
from privacy_platform.anonymization.kanonymity.recoding import UnreachableError
from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness
from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples


def ladder(name, parents, values):
    """A ladder of `values` leaves; `parents` gives each level's group of every group of the level before."""
    codes = [np.arange(values, dtype=np.int32)]
    for parent in parents:
        codes.append(np.unique(np.array(parent)[codes[-1]], return_inverse=True)[1].astype(np.int32))
    leaves = [np.bincount(level) for level in codes]
    # A group of the same leaves keeps its label from level to level, as it does in a hierarchy with short branches.
    labels = [["+".join(map(str, np.flatnonzero(level == code))) for code in range(level.max() + 1)] for level in codes]
    return Ladder(
        name,
        tuple(f"level {i}" for i in range(len(codes))),
        tuple(codes),
        tuple(map(tuple, labels)),
        tuple((counts - 1) / max(1, values - 1) for counts in leaves),
    )


def tuples_of(records, columns):
    """Tuples of records whose first `columns` values are quasi-identifiers and whose last is sensitive."""
    keys = sorted({record[:columns] for record in records})
    number = {key: i for i, key in enumerate(keys)}
    cells = sorted(Counter((number[record[:columns]], record[columns]) for record in records).items())
    sensitive = Sensitive(
        1 + max(value for (_, value), _ in cells),
        np.array([key for (key, _), _ in cells], np.int64),
        np.array([value for (_, value), _ in cells], np.int32),
        np.array([count for _, count in cells], np.int64),
    )
    counts = np.bincount([number[record[:columns]] for record in records]).astype(np.int64)
    return Tuples(np.array(keys, np.int32).reshape(len(keys), columns), counts, {"s": sensitive})


def published(tuples, ladders, levels):
    """Labels of every tuple."""
    return [
        tuple(one.labels[level][one.codes[level][code]] for one, level, code in zip(ladders, row, codes, strict=True))
        for row, codes in zip(levels, tuples.codes, strict=True)
    ]


def satisfies(tuples, ladders, requirements, recoding):
    """Whether the published classes, taken by their labels alone, satisfy the requirements."""
    rows = published(tuples, ladders, recoding.levels)
    numbers = {row: i for i, row in enumerate(dict.fromkeys(rows))}
    groups = np.array([numbers[row] for row in rows], np.int64)
    return not failing(groups, len(numbers), tuples, requirements, ~recoding.suppressed).any()


def ncp(tuples, ladders, recoding):
    """Mean NCP, counted record by record."""
    total = 0.0
    for row, codes, count, out in zip(recoding.levels, tuples.codes, tuples.counts, recoding.suppressed, strict=True):
        for one, level, code in zip(ladders, row, codes, strict=True):
            total += count * (1 if out else one.losses[level][one.codes[level][code]])
    return total / (tuples.records * len(ladders))


@st.composite
def tables(draw):
    """Ladders of one to three columns, with one root or several, and skewed records over them."""
    ladders = []
    for number in range(draw(st.integers(1, 3))):
        values = draw(st.integers(1, 6))
        parents, width = [], values
        for _ in range(draw(st.integers(0, 3))):
            parents.append(draw(st.lists(st.integers(0, max(0, width - 2)), min_size=values, max_size=values)))
            width = len(set(parents[-1][:width]))
        if draw(st.booleans()):
            parents.append([0] * values)
        ladders.append(ladder(f"q{number}", parents, values))
    record = st.tuples(
        *(st.integers(0, len(one.codes[0]) - 1) for one in ladders), st.sampled_from([0, 0, 0, 1, 1, 2, 3])
    )
    repeated = st.lists(st.tuples(record, st.integers(1, 4)), min_size=1, max_size=25)
    return tuples_of([one for one, times in draw(repeated) for _ in range(times)], len(ladders)), ladders


MODELS = st.one_of(
    st.builds(LDiversity, st.integers(1, 3)),
    st.builds(LDiversity, st.sampled_from([1.5, 2]), st.just("entropy")),
    st.builds(LDiversity, st.integers(1, 2), st.just("recursive"), st.sampled_from([1.0, 2.0, 3.0])),
    st.builds(TCloseness, st.sampled_from([0.1, 0.3, 0.5]), st.sampled_from(["equal", "ordered"])),
)
REQUIREMENTS = st.builds(
    lambda k, models, limit: Requirements(k, {"s": tuple(models)} if models else {}, limit),
    st.integers(1, 6),
    st.lists(MODELS, max_size=2),
    st.sampled_from([0.0, 0.0, 0.1, 0.3]),
)


@given(tables(), REQUIREMENTS, st.data())
@settings(max_examples=80, deadline=None)
def test_what_is_published_satisfies_and_loses_no_more_than_any_global_recoding(table, requirements, data):
    tuples, ladders = table
    pinned = {}
    if data.draw(st.booleans()):
        one = data.draw(st.sampled_from(ladders))
        pinned = {one.name: data.draw(st.sampled_from(one.levels))}
    try:
        recoding = local_recoding(tuples, ladders, requirements, pinned=pinned)
    except UnreachableError:
        with pytest.raises(UnreachableError):
            global_recoding(tuples, ladders, requirements, pinned=pinned)
        return
    assert recoding.levels.shape == tuples.codes.shape
    assert satisfies(tuples, ladders, requirements, recoding)
    rows = published(tuples, ladders, recoding.levels)
    kept = ~recoding.suppressed
    assert recoding.classes == len({row for row, keep in zip(rows, kept, strict=True) if keep})
    assert recoding.suppressed_records == tuples.counts[recoding.suppressed].sum()
    assert recoding.suppressed_records <= suppressible(tuples.records, requirements)
    assert recoding.loss == pytest.approx(ncp(tuples, ladders, recoding))
    assert recoding.loss == pytest.approx(np.mean(recoding.losses))
    for column, one in enumerate(ladders):
        if one.name in pinned:
            assert (recoding.levels[:, column] == one.levels.index(pinned[one.name])).all()
    try:
        whole = global_recoding(tuples, ladders, replace(requirements, suppression_limit=0.0), pinned=pinned)
    except UnreachableError:
        return
    assert recoding.suppressed_records == 0
    assert recoding.loss <= whole.loss + 1e-9


def skewed(rows, seed=0):
    """A table of four columns and a sensitive one, with `rows` records."""
    rng = np.random.default_rng(seed)
    decade = ladder("age", [[i // 5 for i in range(40)], [i // 2 for i in range(8)], [0] * 4], 40)
    place = ladder("place", [[0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3], [0, 0, 1, 1], [0, 0]], 12)
    sex = ladder("sex", [[0, 0]], 2)
    trade = ladder("trade", [[0, 0, 0, 1, 1, 2], [0, 0, 0]], 6)
    ladders = [decade, place, sex, trade]
    columns = [
        np.minimum(rng.poisson(12, rows), 39),
        np.minimum(rng.geometric(0.3, rows) - 1, 11),
        rng.integers(0, 2, rows),
        np.minimum(rng.geometric(0.4, rows) - 1, 5),
        rng.choice(4, rows, p=[0.5, 0.3, 0.15, 0.05]),
    ]
    return tuples_of(list(zip(*(column.tolist() for column in columns), strict=True)), 4), ladders


@pytest.mark.parametrize(
    "model",
    [None, LDiversity(2), LDiversity(2, "entropy"), LDiversity(2, "recursive", 3.0), TCloseness(0.3)],
    ids=["k", "distinct", "entropy", "recursive", "t"],
)
def test_a_table_of_some_size_loses_much_less_than_globally_and_always_the_same(model):
    tuples, ladders = skewed(350)
    requirements = Requirements(5, {"s": (model,)} if model else {})
    one, other = (local_recoding(tuples, ladders, requirements) for _ in range(2))
    assert satisfies(tuples, ladders, requirements, one)
    assert one.suppressed_records == 0
    assert one.loss < 0.75 * global_recoding(tuples, ladders, requirements).loss
    assert (one.levels == other.levels).all()
    assert (one.loss, one.classes, one.checked) == (other.loss, other.classes, other.checked)


def test_the_order_of_the_values_of_a_column_does_not_matter_to_validity():
    tuples, ladders = skewed(300, seed=1)
    requirements = Requirements(4)
    order = np.random.default_rng(3).permutation(len(tuples.counts))
    new = np.argsort(order)
    old = tuples.sensitive["s"]
    mixed = Tuples(
        tuples.codes[order],
        tuples.counts[order],
        {"s": Sensitive(old.values, new[old.tuple_index], old.value, old.count)},
    )
    assert satisfies(mixed, ladders, requirements, local_recoding(mixed, ladders, requirements))


def test_tuples_with_enough_records_stay_as_they_are():
    tuples, ladders = tuples_of([(0, 0)] * 5 + [(3, 0)] * 6, 1), [ladder("q", [[0, 0, 1, 1], [0, 0]], 4)]
    recoding = local_recoding(tuples, ladders, Requirements(5))
    assert recoding.levels.tolist() == [[0], [0]]
    assert (recoding.loss, recoding.classes) == (0, 2)


def test_a_tuple_of_few_records_is_not_pulled_to_a_far_one():
    records = [(0, 0)] * 2 + [(1, 0)] * 3 + [(2, 0)] * 2 + [(3, 0)] * 3
    recoding = local_recoding(tuples_of(records, 1), [ladder("q", [[0, 0, 1, 1], [0, 0]], 4)], Requirements(5))
    assert recoding.levels.tolist() == [[1]] * 4


def test_only_what_cannot_be_published_is_suppressed():
    # Two roots: value 2 has no ancestor in common with the others.
    two_roots = ladder("q", [[0, 0, 1]], 3)
    tuples = tuples_of([(0, 0)] * 3 + [(1, 0)] * 2 + [(2, 0)], 1)
    recoding = local_recoding(tuples, [two_roots], Requirements(5, suppression_limit=0.2))
    assert recoding.suppressed.tolist() == [False, False, True]
    assert recoding.loss == pytest.approx((5 * 0.5 + 1) / 6)
    with pytest.raises(UnreachableError, match="suppress"):
        local_recoding(tuples, [two_roots], Requirements(5, suppression_limit=0.1))


def test_less_may_be_suppressed_at_finer_levels():
    # Together they break entropy l, and all would go; apart only the uniform ones do.
    records = [(0, value) for value in (0, 1, 2, 3)] + [(1, 0)] * 12
    needs = Requirements(2, {"s": (LDiversity(3.5, "entropy"),)}, suppression_limit=0.75)
    recoding = local_recoding(tuples_of(records, 1), [ladder("q", [[0, 0]], 2)], needs)
    assert recoding.suppressed.tolist() == [False, True]


def test_a_pin_that_does_not_exist_is_refused():
    tuples, ladders = skewed(50)
    with pytest.raises(LatticeError, match="pinned"):
        local_recoding(tuples, ladders, Requirements(2), pinned={"age": "nonsense"})


def test_a_lattice_too_large_for_the_global_search_is_no_obstacle(monkeypatch):
    tuples, ladders = skewed(200)
    monkeypatch.setattr(lattice, "LARGEST", 3)
    assert satisfies(tuples, ladders, Requirements(5), local_recoding(tuples, ladders, Requirements(5)))


def test_where_clustering_loses_more_the_global_recoding_is_taken():
    # Clustering alone ends at 0.545 here: no single move and no neighbourhood leads from there to one column untouched.
    records = [(1, 1, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 2, 0), (0, 0, 1), (1, 2, 0), (0, 2, 0)]
    records += [(1, 2, 1), (1, 2, 1), (1, 2, 0)]
    ladders = [ladder("a", [[0, 0]], 2), ladder("b", [[0, 0, 0]], 3)]
    recoding = local_recoding(tuples_of(records, 2), ladders, Requirements(2, {"s": (LDiversity(2),)}))
    assert recoding.loss <= 0.5 + 1e-9


def test_an_empty_table():
    empty = Tuples(np.empty((0, 1), np.int32), np.empty(0, np.int64))
    recoding = local_recoding(empty, [ladder("q", [[0, 0]], 2)], Requirements(5))
    assert (recoding.levels.shape, recoding.loss, recoding.classes) == ((0, 1), 0, 0)


def points_of(tuples, ladders):
    return Points.of(tuples.codes, tuples.counts, ladders, allowed_levels(ladders, {}))


@given(tables())
@settings(max_examples=60, deadline=None)
def test_penalties_are_the_ncp_of_the_lowest_common_ancestors(table):
    tuples, ladders = table
    points = points_of(tuples, ladders)
    every = np.arange(len(tuples.counts))
    got = points.penalties(every[:, None], every[None, :])
    assert got.sum(axis=0) == pytest.approx(points.distances(every[:, None], every[None, :]), rel=1e-5)
    for column, one in enumerate(ladders):
        for a, x in enumerate(tuples.codes[:, column]):
            for b, y in enumerate(tuples.codes[:, column]):
                common = [
                    loss[codes[x]] for loss, codes in zip(one.losses, one.codes, strict=True) if codes[x] == codes[y]
                ]
                assert got[column, a, b] == pytest.approx(common[0]) if common else got[column, a, b] > APART / 2


def test_near_points_are_near_and_never_apart():
    tuples, ladders = skewed(250)
    # Without their root the trades are apart, and some have fewer points than are asked for.
    ladders = [
        *ladders[:3],
        replace(
            ladders[3], **{name: getattr(ladders[3], name)[:1] for name in ("levels", "codes", "labels", "losses")}
        ),
    ]
    points = points_of(tuples, ladders)
    near = nearest(points, near_order(points), 30, np.random.default_rng(0))
    every = np.arange(len(tuples.counts))
    distances = points.distances(every[:, None], every[None, :])
    chosen = np.take_along_axis(distances, near, 1)
    assert (np.diff(chosen[:, :4], axis=1) >= 0).all()
    assert chosen.max() < APART / 2
    assert all(len(set(row) - {i}) == len(set(row.tolist()) - {i}) for i, row in enumerate(near))
    np.fill_diagonal(distances, np.inf)
    assert chosen[:, 0].mean() <= 1.05 * distances.min(axis=1).mean()


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), max_size=20))
def test_claims_are_granted_as_if_one_after_the_other(claims):
    taken, expected = set(), []
    for claim in claims:
        expected.append(taken.isdisjoint(claim))
        if expected[-1]:
            taken.update(claim)
    assert undisputed(np.array(claims, np.int64).reshape(-1, 3), 10).tolist() == expected


def test_a_point_that_spoils_its_cluster_moves():
    # Point 3 alone keeps 0 to 2 from a finer label. That gains 2.8; it makes the four records of point 4 lose 2.
    tree = ladder("q", [[0, 0, 0, 1, 1, 1], [0, 0]], 6)
    points = points_of(tuples_of([(value, 0) for value in (0, 1, 2, 3, 4, 4, 4, 4)], 1), [tree])
    clusters = Clusters.by(points, np.array([0, 0, 0, 0, 1]))
    near = np.array([[1, 2], [0, 2], [0, 1], [4, 0], [3, 3]])
    moved, how_many = move(points, clusters, near, 2, None)
    assert how_many == 1
    assert moved.of.tolist() == [0, 0, 0, 1, 1]
    assert moved.loss.sum() == pytest.approx(8 * 0.4)


def test_failing_clusters_join_those_that_mend_them():
    # The cheap neighbour has the same sensitive value; joining it would not help, and both would go on to the dear one.
    cheap, dear = ladder("cheap", [[0, 0, 1, 1], [0, 0]], 4), ladder("dear", [[0, 0]], 2)
    tuples = tuples_of([(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)] * 2, 2)
    points = points_of(tuples, [cheap, dear])
    demands = Demands.on(tuples, Requirements(2, {"s": (LDiversity(2),)}))
    apart = Clusters.by(points, np.arange(4))
    clusters, merged = merge_failing(points, apart, near_order(points), demands)
    assert merged == 2
    assert clusters.penalties.tolist() == [[0, 0], [1, 1]]


def partition_is_right(points, clusters):
    members = defaultdict(list)
    for point, cluster in enumerate(clusters.of.tolist()):
        members[cluster].append(point)
    for cluster, several in members.items():
        together = points.penalties(np.array(several)[:, None], np.array(several)[None, :]).max(axis=(1, 2))
        assert clusters.penalties[:, cluster] == pytest.approx(together)
        assert clusters.counts[cluster] == points.counts[several].sum()
    assert clusters.loss.sum() == pytest.approx((clusters.penalties.sum(axis=0) * clusters.counts).sum())


@pytest.mark.parametrize("model", [None, LDiversity(2), TCloseness(0.35)], ids=["k", "l", "t"])
def test_moves_and_neighbourhoods_keep_a_partition_valid_and_lower_its_loss(model):
    tuples, ladders = skewed(500, seed=2)
    requirements = Requirements(5, {"s": (model,)} if model else {})
    points, demands = points_of(tuples, ladders), Demands.on(tuples, requirements)
    order = near_order(points)
    rng = np.random.default_rng(0)
    near = nearest(points, order, 20, rng)
    clusters, _ = merge_failing(points, Clusters.by(points, gather(points, near, 5)), order, demands)
    gains = 0
    for step in range(8):
        before = clusters.loss.sum()
        if step % 2:
            clusters, _ = move(points, clusters, near, 5, demands.failing if model else None)
        else:
            clusters, _ = regroup(points, clusters, near, 5, demands if model else None, rng, 6, 0.0)
        assert clusters.loss.sum() <= before + 1e-3
        gains += clusters.loss.sum() < before
        assert not failing(clusters.of, len(clusters.sizes), tuples, requirements).any()
        partition_is_right(points, clusters)
    assert gains >= 3


def test_gathered_clusters_have_k_records_or_one_point():
    tuples, ladders = skewed(800)
    points = points_of(tuples, ladders)
    near = nearest(points, near_order(points), 20, np.random.default_rng(0))
    clusters = Clusters.by(points, gather(points, near, 5))
    partition_is_right(points, clusters)
    assert ((clusters.counts >= 5) | (clusters.sizes == 1)).all()
    assert clusters.counts[clusters.counts >= 5].sum() > 0.9 * tuples.records


def test_an_excerpt_judges_against_the_whole_table():
    tuples, _ = skewed(400)
    demands = Demands.on(tuples, Requirements(3, {"s": (TCloseness(0.3),)}))
    some = np.array([7, 3, 20, 11, 5, 40])
    groups = np.full(len(tuples.counts), 2)
    groups[some[:3]], groups[some[3:]] = 0, 1
    expected = demands.failing(groups, 2)
    excerpt = demands.excerpt(some)
    assert excerpt.tuples.records == tuples.records
    assert excerpt.failing(np.array([0, 0, 0, 1, 1, 1]), 2).tolist() == expected.tolist()


def test_values_that_are_rare_in_the_cluster_help():
    tuples = tuples_of([(0, 0)] * 3 + [(1, 0)] + [(2, 1)] + [(3, 1)], 1)
    demands = Demands.on(tuples, Requirements(3, {"s": (LDiversity(2),)}))
    fails, helps = demands.judge(np.array([0, 1, 1, 1]), 1, np.array([[1, 2, 3, -1]]))
    assert fails.tolist() == [True]
    assert helps.tolist() == [[False, True, True, False]]
    assert classes_of(np.array([0, 1, 1, 1]), 2, tuples).counts.tolist() == [3, 3]

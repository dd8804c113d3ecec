"""Private aggregates without Spark: promised errors are kept, and an attacker learns no more than epsilon."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from privacy_platform.anonymization.dp.plan import Plan
from privacy_platform.policy.figures import add_noise, figures, private_answers, shown
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.private import PEOPLE, STEPS, plan_of

REPETITIONS = 2_000
TRIALS = 20_000
# A share of TRIALS is no further from its probability, but in one of a billion runs (Hoeffding 1963).
OFF = math.sqrt(math.log(2e9) / (2 * TRIALS))


def policy(figures: dict[str, Any], **privacy: Any) -> AggregatePolicy:
    return AggregatePolicy.model_validate(
        {
            "aggregate": "t",
            "description": "d",
            "source": "anonymized_s",
            "unit": "token",
            "mode": "differentially_private",
            "dimensions": {"place": {"column": "place", "required": True, "comment": "c"}},
            "measures": {name: {"comment": "c", **measure} for name, measure in figures.items()},
            "privacy": {"unit": "user", "epsilon": 1.0, "groups_per_unit": 2, "rows_per_group": 3, **privacy},
        }
    )


PLACES = [f"p{n}" for n in range(8)]
MEASURES: dict[str, Any] = {
    "rows": {"kind": "count"},
    "people": {"kind": "count_distinct", "column": "token"},
    "spent": {"kind": "sum", "column": "x"},
    "mean": {"kind": "mean", "column": "x"},
    "spread": {"kind": "variance", "column": "x"},
    "median": {"kind": "quantile", "column": "x", "q": 0.5},
    "ranges": {"kind": "histogram", "column": "x", "edges": [0, 30, 60, 100]},
    "each": {"kind": "ratio", "numerator": "spent", "denominator": "rows"},
}
CLAMPS: dict[str, Any] = {name: {"clamp": [0, 100]} for name in ("spent", "mean", "spread", "median")}
KNOWN = {"place": PLACES}


def answered(private: AggregatePolicy, values: dict[str, np.ndarray]) -> pl.DataFrame:
    """The exact whole numbers of a population: every value is one row of one person."""
    rows = []
    for place, x in values.items():
        row: dict[str, Any] = {"place": place, PEOPLE: len(x), "_q_rows": len(x)}
        row["_q_spent"] = int(np.round(x / 100 * STEPS).sum())
        distance = (x - 50) / 50
        for name in ("mean", "spread"):
            row |= {f"_q_{name}__sum": int(np.round(distance * STEPS).sum()), f"_q_{name}__count": len(x)}
        row["_q_spread__squares"] = int(np.round((2 * distance**2 - 1) * STEPS).sum())
        for name, edges in (("median", np.linspace(0, 100, 33)), ("ranges", np.array([0, 30, 60, 100]))):
            counts, _ = np.histogram(x, edges)
            row |= {f"_q_{name}__{n + 1}": int(count) for n, count in enumerate(counts)}
        rows.append(row)
    queries = [column for planned in plan_of(private).queries.values() for column in planned.query.columns]
    return pl.DataFrame(rows).select("place", *queries)


@pytest.mark.parametrize("delta", [0.0, 1e-6], ids=["laplace", "gaussian"])
def test_promised_errors_are_kept_in_95_of_100_groups(delta: float) -> None:
    private = policy(MEASURES, delta=delta, groups_per_unit=2 if delta == 0 else 30, measures=CLAMPS, keys=KNOWN)
    plan = plan_of(private)
    assert plan.mechanism == ("discrete gaussian" if delta else "discrete laplace")
    rng = np.random.default_rng(1)
    # Groups large enough that no figure is cut at zero, skewed differently.
    values = {place: rng.beta(1 + n / 2, 3, 30_000 + 4_000 * n) * 100 for n, place in enumerate(PLACES)}
    exact = answered(private, values)
    truth = {name: row for name, row in zip(PLACES, figures(private, plan, exact).iter_rows(named=True), strict=True)}
    noised = private_answers(private, plan, exact)
    assert noised["place"].to_list() == PLACES
    # One release of many groups is as good as many of few: the noise of each is its own.
    many = pl.concat([figures(private, plan, private_answers(private, plan, exact)) for _ in range(REPETITIONS // 8)])
    kept: dict[str, list[bool]] = {}
    for row in many.iter_rows(named=True):
        for name in row:
            if name.endswith("_error_95"):
                figure = name.removesuffix("_error_95")
                kept.setdefault(figure, []).append(abs(row[figure] - truth[row["place"]][figure]) <= row[name])
    assert set(kept) == {*MEASURES, "ranges_1", "ranges_2", "ranges_3"} - {"ranges"}
    for figure, held in kept.items():
        assert len(held) == REPETITIONS
        # 94 to 97, and what 2,000 repetitions can be off by; a quantile's promise holds a bin's width as well.
        assert 0.92 < np.mean(held) < (1.01 if figure == "median" else 0.98), figure
    every = np.concatenate([held for figure, held in kept.items() if figure != "median"])
    assert 0.94 < every.mean() < 0.97


def attack(plan: Plan, unit: dict[str, int], groups: int) -> float:
    """The largest epsilon that an attacker who knows all others can prove, of seeing whether one unit is in the data.

    They look at how likely each answer is with and without the unit, as strong a test as there is (Neyman and Pearson
    1933), and at every threshold on it; what they prove is below the truth but in one of a billion runs.
    """
    places = PLACES[:groups]
    base = {column: 1000 for planned in plan.queries.values() for column in planned.query.columns}
    without = pl.DataFrame([{"place": place, **base} for place in places])
    with_unit = without.with_columns(pl.col(column) + change for column, change in unit.items())
    scores = []
    for world in (with_unit, without):
        noised = add_noise(plan, pl.concat([world] * TRIALS), plan.queries)
        score = np.zeros(len(noised))
        for planned in plan.queries.values():
            for column in planned.query.columns:
                x, b = noised[column].to_numpy() - 1000.0, planned.scale
                change = unit.get(column, 0)
                if plan.mechanism == "discrete laplace":
                    score += (np.abs(x) - np.abs(x - change)) / b
                else:
                    score += (x * change - change**2 / 2) / b**2
        scores.append(score.reshape(TRIALS, groups).sum(axis=1))
    best = 0.0
    for cut in np.quantile(np.concatenate(scores), np.linspace(0.02, 0.98, 97)):
        hit, false = (scores[0] >= cut).mean() - OFF, (scores[1] >= cut).mean() + OFF
        if hit > plan.loss.delta:
            best = max(best, math.log((hit - plan.loss.delta) / false))
    return best


MEASURES_OF_ATTACK: dict[str, Any] = {
    "rows": {"kind": "count"},
    "people": {"kind": "count_distinct", "column": "token"},
}


@pytest.mark.parametrize(("delta", "epsilon"), [(0.0, 1.0), (0.0, 3.0), (1e-5, 1.0)])
def test_an_attacker_proves_no_more_than_epsilon(delta: float, epsilon: float) -> None:
    private = policy(MEASURES_OF_ATTACK, epsilon=epsilon, delta=delta, keys=KNOWN)
    plan = plan_of(private)
    found = attack(plan, {"_q_rows": 3, PEOPLE: 1}, groups=2)
    assert found <= epsilon
    # The test has teeth: it finds a good part of it.
    assert found > (0.4 if delta == 0 else 0.2) * epsilon


@pytest.mark.parametrize(
    ("broken", "groups"), [({"_q_rows": 10_000, PEOPLE: 1}, 2), ({"_q_rows": 3, PEOPLE: 1}, 8)], ids=["rows", "groups"]
)
def test_a_bound_left_out_is_found_by_the_attacker(broken: dict[str, int], groups: int) -> None:
    private = policy(MEASURES_OF_ATTACK, keys=KNOWN)
    assert attack(plan_of(private), broken, groups) > 1.0


def test_found_keys_come_with_all_known_ones_and_small_ones_stay_hidden() -> None:
    private = policy(MEASURES_OF_ATTACK, delta=1e-6).model_copy()
    document = private.model_dump(mode="json")
    document["dimensions"]["kind"] = {"column": "kind", "required": True, "comment": "c"}
    document["privacy"] |= {"keys": {"kind": {"values": ["a", "b"]}}, "keys_per_unit": 1}
    mixed = AggregatePolicy.model_validate(document)
    plan = plan_of(mixed)
    assert plan.keys == "_keys"
    answers = pl.DataFrame(
        [
            {"place": "large", "kind": "a", "_q_rows": 90_000, "_keys": 50_000, PEOPLE: 50_000},
            {"place": "alone", "kind": "b", "_q_rows": 1, "_keys": 1, PEOPLE: 1},
        ]
    )
    table = figures(mixed, plan, private_answers(mixed, plan, answers))
    assert table.select("place", "kind").rows() == [("large", "a"), ("large", "b")]
    assert "place" in shown(plan, mixed)
    assert table["rows"][0] == pytest.approx(90_000, abs=2_000)
    assert table["rows"][1] < 2_000


def test_totals_are_the_sum_of_their_parts_and_err_less() -> None:
    measures = {name: {"kind": "count", "where": {"place": name}} for name in ("views", "carts")} | {
        "all": {"kind": "count"}
    }
    private = policy(measures, keys=KNOWN, consistent={"all": ["views", "carts"]})
    plan = plan_of(private)
    answers = pl.DataFrame({"place": PLACES, "_q_all": [5000] * 8, "_q_views": [4000] * 8, "_q_carts": [1000] * 8})
    tables = [figures(private, plan, private_answers(private, plan, answers)) for _ in range(200)]
    table = pl.concat(tables)
    assert (table["all"] == table["views"] + table["carts"]).all()
    assert table["all_error_95"][0] < plan.queries["_q_all"].error_95
    within = ((table["all"] - 5000).abs() <= table["all_error_95"]).mean()
    assert isinstance(within, float)
    assert 0.92 < within < 0.98


def test_where_noise_leaves_nothing_to_say_a_mean_is_null_and_counts_are_not_below_zero() -> None:
    private = policy(
        {k: MEASURES[k] for k in ("rows", "mean", "spread", "median")},
        measures={k: CLAMPS[k] for k in ("mean", "spread", "median")},
        keys=KNOWN,
    )
    plan = plan_of(private)
    columns = [column for planned in plan.queries.values() for column in planned.query.columns]
    empty = pl.DataFrame({"place": PLACES, **{column: [0] * 8 for column in columns}})
    table = pl.concat([figures(private, plan, private_answers(private, plan, empty)) for _ in range(20)])
    assert table["rows"].min() == 0
    assert table["mean"].null_count() > 0.9 * len(table)
    assert table["mean"].is_null().equals(table["mean_error_95"].is_null())


@pytest.mark.parametrize("delta", [0.0, 1e-6], ids=["laplace", "gaussian"])
def test_what_is_told_of_small_groups_keeps_its_promise_too(delta: float) -> None:
    names = ("rows", "spent", "mean", "each")
    private = policy(
        {k: MEASURES[k] for k in names},
        measures={k: CLAMPS[k] for k in ("spent", "mean")},
        keys=KNOWN,
        delta=delta,
        groups_per_unit=2 if delta == 0 else 30,
    )
    plan = plan_of(private)
    # Eight sizes from next to nothing to twice what is told; every value is 70.
    sizes = [round(plan.queries["_q_mean__count"].error_95 * times) for times in (0, 1, 2, 2.5, 3, 3.5, 4, 6)]
    exact = answered(private, {place: np.full(size, 70.0) for place, size in zip(PLACES, sizes, strict=True)})
    table = pl.concat([figures(private, plan, private_answers(private, plan, exact)) for _ in range(500)])
    for name, truth in (("mean", 70.0), ("each", 70.0)):
        told = table.filter(pl.col(name).is_not_null())
        assert 0.2 < told.height / table.height < 0.9
        within = ((told[name] - truth).abs() <= told[f"{name}_error_95"]).mean()
        assert isinstance(within, float)
        assert 0.93 < within < 0.98, name


MISTAKES = [
    ({"privacy": None}, "privacy: is missing"),
    ({"privacy.unit": "user_day"}, "privacy.unit: `user_day` needs a dimension with `truncate: day`"),
    ({"join": {"table": "anonymized_o", "by": "shop", "columns": ["owner"]}}, "privacy.unit: a private table joins by"),
    ({"window": {"column": "at"}}, "window: windows are counted anew again and again"),
    ({"privacy.measures": {"spent": {}}}, r"privacy.measures.spent: `sum` needs `clamp"),
    ({"privacy.measures": {"spent": {"clamp": [3, 3]}}}, "low below high"),
    ({"privacy.measures": {"spent": {"clamp": [0, 9]}, "rows": {"clamp": [0, 1]}}}, "`count` has no `clamp`"),
    ({"privacy.measures": {"spent": {"clamp": [0, 9]}, "typo": {}}}, "`typo` is not a measure"),
    ({"privacy.keys": "private", "privacy.delta": 0}, "privacy.delta: keys found in the data need a delta"),
    ({"privacy.keys": {"nowhere": ["a"]}}, "privacy.keys.nowhere: is not a dimension"),
    ({"privacy.keys": {"place": {"first": "2026-01-01", "last": "2026-01-02"}}}, "keys are a list of values"),
    ({"privacy.keys": {"place": "landed"}}, "privacy.keys.place: `landed` is for the day"),
    ({"privacy.keys": {"place": {"hierarchy": "city", "level": "planet"}}}, "`planet` is not a level"),
    ({"privacy.keys_per_unit": 1}, "privacy.keys_per_unit: is for tables with known keys and others"),
    ({"privacy.consistent": {"rows": ["spent"]}}, "all counts, or all sums"),
    ({"privacy.epsilon": 0}, "greater than 0"),
]


@pytest.mark.parametrize(
    ("changes", "message"), MISTAKES, ids=lambda value: next(iter(value)) if isinstance(value, dict) else ""
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    document = policy(
        {name: MEASURES[name] for name in ("rows", "spent")}, keys=KNOWN, measures={"spent": {"clamp": [0, 9]}}
    ).model_dump(mode="json", exclude_defaults=True)
    for path, value in changes.items():
        target = document
        *parents, last = path.split(".")
        for parent in parents:
            target = target[parent]
        target[last] = value
    with pytest.raises(ValidationError, match=message):
        AggregatePolicy.model_validate(document)

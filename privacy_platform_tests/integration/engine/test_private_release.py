"""Private aggregates on real tables: bounded contributions, thresholds, standing periods, and the budget."""

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from privacy_platform.engine import release_private as release_private_module
from privacy_platform.engine import shares
from privacy_platform.engine.bounding import COMPLETE, bounded_answers
from privacy_platform.engine.gate import WarehouseError
from privacy_platform.engine.release_aggregate import release_aggregate
from privacy_platform.engine.shares import Share, Shares
from privacy_platform.engine.sources import zone
from privacy_platform.engine.sources.zone import snapshot
from privacy_platform.governance.budget import BudgetSpentError
from privacy_platform.policy.compile import anonymized_table
from privacy_platform.policy.figures import figures
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy, DatasetPolicy
from privacy_platform.policy.private import PEOPLE, plan_of
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.frequency import heaviest_share
from privacy_platform.warehouse.tables import partition_name, partitions
from privacy_platform_tests.integration.engine.support import (
    START,
    World,
    days,
    exists,
    frame,
    people_policy,
    person,
    query,
    release_meanwhile,
    staging_is_empty,
    visit,
    visits_policy,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BUDGET = {unit: {"epsilon": 100, "delta": 1e-3} for unit in ("user", "user_day")}
MEMBERS = people_policy("dp_people", privacy_budget=BUDGET)
CALLS = visits_policy("dp_visits", "dp_people")
PEOPLE_COUNT, HOG = 120, "person-00001"


def policy(name: str, privacy: dict[str, Any] | None = None, **changes: Any) -> AggregatePolicy:
    document: dict[str, Any] = {
        "aggregate": name,
        "description": "Visits.",
        "mode": "differentially_private",
        "source": "anonymized_dp_visits",
        "unit": "token",
        "join": {"table": "anonymized_dp_people", "by": "token", "columns": ["region"]},
        "derive": {"length": {"span": "at", "by": "session_hash"}},
        "dimensions": {
            "day": {"column": "at", "truncate": "day", "required": True, "comment": "c"},
            "page": {"column": "page", "comment": "c"},
        },
        "measures": {
            "visits": {"kind": "count", "comment": "c"},
            "people": {"kind": "count_distinct", "column": "token", "comment": "c"},
            "mean_price": {"kind": "mean", "column": "price", "comment": "c"},
            "spread": {"kind": "variance", "column": "price", "comment": "c"},
            "median_price": {"kind": "quantile", "column": "price", "q": 0.5, "comment": "c"},
            "prices": {"kind": "histogram", "column": "price", "edges": [0, 3, 6, 11], "comment": "c"},
            "revenue": {"kind": "sum", "column": "price", "times": "items", "comment": "c"},
            "a_visit": {"kind": "ratio", "numerator": "revenue", "denominator": "visits", "comment": "c"},
            "session_length": {"kind": "mean", "column": "length", "once_per": "session_hash", "comment": "c"},
        },
        "privacy": {
            "unit": "user_day",
            # So much that noise is next to none: what is left is the arithmetic.
            "epsilon": 20,
            "delta": 1e-3,
            "groups_per_unit": 3,
            "rows_per_group": 4,
            "keys": {"day": "landed", "page": ["home", "cart", "help"]},
            "measures": {
                "mean_price": {"clamp": [0, 10]},
                "spread": {"clamp": [0, 10]},
                "median_price": {"clamp": [0, 10]},
                "revenue": {"clamp": [0, 30]},
                "session_length": {"clamp": [0, 86400]},
            },
        }
        | (privacy or {}),
    }
    return AggregatePolicy.model_validate(document | changes)


@pytest.fixture(scope="module")
def ready(world: World) -> World:
    world.land(MEMBERS, world.put("people.jsonl", [person(n) for n in range(PEOPLE_COUNT)]))
    world.anonymize(MEMBERS)
    rows = [visit(n, PEOPLE_COUNT) for n in range(1500)]
    # One who does as much in a day as all the others together.
    pages = ("home", "cart", "help")
    rows += [visit(n // 3, PEOPLE_COUNT, visit=f"hog{n}", id=HOG, page=pages[n % 3]) for n in range(600)]
    world.land(CALLS, world.put("visits.jsonl", rows), selected=days(3))
    world.anonymize(CALLS, MEMBERS, selected=days(3))
    return world


def answers(world: World, private: AggregatePolicy, *datasets: DatasetPolicy) -> pl.DataFrame:
    """What is computed before any noise."""
    with connect(Role.PIPELINE) as connection, snapshot() as seen:
        read = {table: partitions(connection, table) for table in map(anonymized_table, datasets)}
        found = bounded_answers(world.spark, private, Shares(connection, private, read, seen=seen))
    return found.sort(list(private.dimensions), nulls_last=True)


def test_without_bounds_that_cut_the_figures_are_those_of_a_brute_force_computation(ready: World) -> None:
    wide = policy("dp_wide", {"groups_per_unit": 9, "rows_per_group": 1000})
    found = answers(ready, wide, CALLS, MEMBERS)
    assert (found["_rows"] == found["_all_rows"]).all()
    # The plan of narrower bounds: with so wide ones the noise would leave nothing to say of means.
    shown = figures(wide, plan_of(policy("dp_wide", {"groups_per_unit": 1, "rows_per_group": 1})), found)
    rows = frame("anonymized.anonymized_dp_visits").with_columns(
        pl.col("at").dt.date().alias("day"), pl.col("page").fill_null("unknown")
    )
    # A session is looked at within its person and day.
    length = (pl.col("at").max() - pl.col("at").min()).over(
        "token", "day", "session_hash"
    ).dt.total_microseconds() / 1e6
    rows = rows.with_columns(length.alias("length"))
    price, keys = pl.col("price"), ["day", "page"]
    expected = (
        rows.group_by(keys)
        .agg(
            pl.len().alias("visits"),
            pl.col("token").n_unique().alias("people"),
            price.mean().alias("mean_price"),
            price.var(ddof=0).alias("spread"),
            price.is_between(0, 3, closed="left").sum().alias("prices_1"),
            price.is_between(3, 6, closed="left").sum().alias("prices_2"),
            price.is_between(6, 11, closed="left").sum().alias("prices_3"),
            (price * pl.col("items")).sum().alias("revenue"),
        )
        .join(
            rows.unique([*keys, "token", "session_hash"])
            .group_by(keys)
            .agg(pl.col("length").mean().alias("session_length")),
            on=keys,
        )
        .sort(keys)
    )
    for name in expected.columns[2:]:
        assert shown.sort(keys)[name].to_list() == pytest.approx(expected[name].to_list(), rel=1e-4), name


@pytest.mark.parametrize("in_all", [None, 5])
def test_nobody_counts_for_more_than_the_bounds_allow(ready: World, in_all: int | None) -> None:
    # Narrower than the values, so that a clamp left out changes more than the plan allows.
    clamps = {
        "mean_price": {"clamp": [2, 4]},
        "spread": {"clamp": [2, 4]},
        "median_price": {"clamp": [2, 4]},
        "revenue": {"clamp": [0, 3]},
        "session_length": {"clamp": [0, 60]},
    }
    bounds = policy(
        "dp_bounds", {"groups_per_unit": 2, "rows_per_group": 4, "rows_per_unit": in_all, "measures": clamps}
    )
    with_hog = answers(ready, bounds, CALLS, MEMBERS)
    rows = frame("anonymized.anonymized_dp_visits")
    hog = rows.group_by("token").len().sort("len")["token"][-1]
    assert rows.filter(pl.col("token") == hog).height > 600
    query_columns = [c for planned in plan_of(bounds).queries.values() for c in planned.query.columns]
    with connect(Role.ADMIN) as connection:
        connection.execute(
            "CREATE TEMP TABLE gone AS SELECT * FROM anonymized.anonymized_dp_visits WHERE token = %s", [hog]
        )
        connection.execute("DELETE FROM anonymized.anonymized_dp_visits WHERE token = %s", [hog])
        connection.commit()
        try:
            without = answers(ready, bounds, CALLS, MEMBERS)
        finally:
            connection.execute("INSERT INTO anonymized.anonymized_dp_visits SELECT * FROM gone")
            connection.commit()
    keys = ["day", "page"]
    both = with_hog.join(without, on=keys, how="left", suffix="_without").fill_null(0)
    for planned in plan_of(bounds).queries.values():
        changes = sum((both[c] - both[f"{c}_without"]).abs() for c in planned.query.columns)
        assert isinstance(changes, pl.Series)
        by_day = (
            both.select("day", changes.alias("l1"))
            .group_by("day")
            .agg(pl.col("l1").sum(), (pl.col("l1") > 0).sum().alias("n"))
        )
        assert by_day["l1"].max() <= planned.l1, planned.query.name
        assert by_day["n"].max() <= 2, planned.query.name
        assert (
            max(both.select((pl.col(c) - pl.col(f"{c}_without")).abs().max()).item() for c in planned.query.columns)
            <= planned.query.most
        )
    assert query_columns
    # The bound bites: the hog changes as much as it may.
    visits = (both["_q_visits"] - both["_q_visits_without"]).sum()
    assert 0 < visits <= 3 * (in_all or 2 * 4)


def test_a_run_again_picks_the_same_rows_however_many_the_shares(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = policy("dp_again", {"groups_per_unit": 2, "rows_per_group": 2})
    first = answers(ready, cut, CALLS, MEMBERS)
    assert answers(ready, cut, CALLS, MEMBERS).equals(first)
    monkeypatch.setattr(zone, "_LEAST_BLOCKS", 1)
    for processors in (1, 3, 7):
        monkeypatch.setenv("PRIVACY_PLATFORM_PARALLELISM", str(processors))
        assert_frame_equal(answers(ready, cut, CALLS, MEMBERS), first)
    monkeypatch.setattr(shares, "_DEALT_BYTES", 1)  # more than processors: dealt out into files
    deal, dealt = Shares._dealt, list[Share]()

    def watched(self: Shares, spark: "SparkSession") -> list[Share]:
        dealt.extend(deal(self, spark))
        return dealt

    monkeypatch.setattr(Shares, "_dealt", watched)
    assert_frame_equal(answers(ready, cut, CALLS, MEMBERS), first)
    assert any(share.files for share in dealt)


def test_what_is_released_when_reading_begins_is_neither_published_nor_charged(
    ready: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def release() -> None:
        ready.anonymize(CALLS, MEMBERS, selected=days(3))

    charges = "SELECT count(*) FROM governance.privacy_budget"
    before = query(charges)
    release_meanwhile(monkeypatch, release_private_module, "later", release)
    with pytest.raises(WarehouseError, match="released anew while it was read"):
        ready.aggregate(policy("dp_later"), CALLS, MEMBERS)
    assert not exists("analytics.dp_later")
    assert query(charges) == before
    release_meanwhile(monkeypatch, release_private_module, "once", release)
    assert ready.aggregate(policy("dp_later"), CALLS, MEMBERS).released
    assert query(charges) > before


def test_checks_of_what_was_released_anew_are_no_verdict(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted before and read after, rows do not reconcile; but nothing is wrong with them, and to try again helps."""
    bounded = release_private_module.bounded_answers

    def after_release(*args: Any, **kwargs: Any) -> pl.DataFrame:
        ready.anonymize(CALLS, MEMBERS, selected=days(3))
        return bounded(*args, **kwargs)

    monkeypatch.setattr(release_private_module, "bounded_answers", after_release)
    with pytest.raises(WarehouseError, match="released anew while it was read"):
        ready.aggregate(policy("dp_counted"), CALLS, MEMBERS)
    assert not exists("analytics.dp_counted")
    assert staging_is_empty()


def test_who_has_many_rows_is_known_and_changes_no_figure(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = anonymized_table(CALLS)
    with connect(Role.PIPELINE) as connection:
        names = [partition_name(visits, partition) for partition in partitions(connection, visits)]
        share = heaviest_share(connection, "anonymized", names, ["token"])
        assert 600 / 2100 < share < 650 / 2100
        assert heaviest_share(connection, "anonymized", names, ["visit"]) == 0
        assert heaviest_share(connection, "anonymized", ["no_such_table"], ["token"]) == 0
    monkeypatch.setattr(zone, "_LEAST_BLOCKS", 1)
    reports = []
    for processors in (2, 4):
        monkeypatch.setenv("PRIVACY_PLATFORM_PARALLELISM", str(processors))
        reports.append(ready.aggregate(policy(f"dp_heavy_{processors}"), CALLS, MEMBERS))
    assert reports[0].statistics == reports[1].statistics
    assert reports[0].statistics["rows_cut_off"] > 500


def test_a_release_stands_until_its_data_change_and_costs_once(ready: World) -> None:
    private = policy("dp_stands", {"epsilon": 1.0, "delta": 1e-6})
    first = ready.aggregate(private, CALLS, MEMBERS)
    assert first.released
    assert first.rows == 3 * 4  # every day with every page, `unknown` among them
    assert {check.name: check.passed for check in first.checks} == {
        "schema_matches_policy": True,
        "row_count_reconciled": True,
        "budget_respected": True,
    }
    shown = frame("analytics.dp_stands")
    charged = (
        "SELECT period, round(epsilon::numeric, 6) FROM governance.privacy_budget WHERE target = %s ORDER BY spend_id"
    )
    assert query(charged, "analytics.dp_stands") == [(day.day, 1) for day in days(3)]
    again = ready.aggregate(private, CALLS, MEMBERS)
    assert not again.released
    assert frame("analytics.dp_stands").equals(shown)
    # The same rows published anew: computed again, found to be what was told already.
    ready.anonymize(CALLS, MEMBERS, selected=days(3)[:1])
    same = ready.aggregate(private, CALLS, MEMBERS)
    assert same.released
    assert same.checks == tuple(check for check in same.checks if check.passed)
    assert len(query(charged, "analytics.dp_stands")) == 3
    assert frame("analytics.dp_stands").sort("day", "page").equals(shown.sort("day", "page"))
    assert not ready.aggregate(private, CALLS, MEMBERS).released
    # One visit more, on the first day.
    ready.land(CALLS, ready.put("visits-late.jsonl", [visit(0, PEOPLE_COUNT, visit="late")]), selected=days(3)[:1])
    ready.anonymize(CALLS, MEMBERS, selected=days(3)[:1])
    assert ready.aggregate(private, CALLS, MEMBERS).released
    charges = query(charged, "analytics.dp_stands")
    assert [period for period, _ in charges[3:]] == [START]
    later = frame("analytics.dp_stands")
    standing = pl.col("day") > START
    assert later.filter(standing).sort("day", "page").equals(shown.filter(standing).sort("day", "page"))
    assert not later.sort("day", "page").equals(shown.sort("day", "page"))
    assert staging_is_empty()


def test_a_table_of_one_period_stands_as_well_when_its_data_are_published_anew(ready: World) -> None:
    keys = {"day": {"first": str(START), "last": str(days(3)[-1].day)}, "page": ["home", "cart", "help"]}
    private = policy("dp_whole", {"unit": "user", "epsilon": 1.0, "delta": 1e-6, "keys": keys})
    ready.aggregate(private, CALLS, MEMBERS)
    shown = frame("analytics.dp_whole")
    assert shown.height
    ready.anonymize(CALLS, MEMBERS, selected=days(3))
    assert ready.aggregate(private, CALLS, MEMBERS).released
    assert frame("analytics.dp_whole").sort("day", "page").equals(shown.sort("day", "page"))
    assert query("SELECT count(*) FROM governance.privacy_budget WHERE target = 'analytics.dp_whole'") == [(1,)]


def test_other_parameters_are_another_question(ready: World) -> None:
    ready.aggregate(policy("dp_asked", {"epsilon": 1.0}), CALLS, MEMBERS)
    again = ready.aggregate(policy("dp_asked", {"epsilon": 0.5}), CALLS, MEMBERS)
    assert again.released
    assert query("SELECT count(*) FROM governance.privacy_budget WHERE target = 'analytics.dp_asked'") == [(6,)]
    exact = ready.aggregate(policy("dp_asked", mode="exact_with_minimum"), CALLS, MEMBERS)
    assert exact.released
    assert "visits_error_95" not in frame("analytics.dp_asked").columns
    # What stood was replaced by exact figures: a private release must not take them for its own.
    assert ready.aggregate(policy("dp_asked", {"epsilon": 0.5}), CALLS, MEMBERS).released
    assert "visits_error_95" in frame("analytics.dp_asked").columns


def test_more_than_is_left_is_refused_before_anything_is_computed(ready: World) -> None:
    poor = people_policy("dp_people", privacy_budget={"user": {"epsilon": 0.5, "delta": 1e-6}})
    costly = policy("dp_costly", {"unit": "user", "epsilon": 0.9, "delta": 1e-7, "keys": "private"})

    def never() -> Any:
        raise AssertionError("Spark was asked for")

    policies = PolicySet({"dp_people": poor, "dp_visits": CALLS}, {"dp_costly": costly})
    with pytest.raises(BudgetSpentError, match=r"epsilon 0\.5 at delta 1e-06"):
        release_aggregate(never, costly, policies, ready.run())
    assert not exists("analytics.dp_costly")


def test_groups_of_few_are_not_shown_and_found_keys_come_with_all_known_ones(ready: World) -> None:
    found = policy(
        "dp_found",
        {"keys": {"day": "landed", "page": ["home", "cart", "help"]}, "keys_per_unit": 1, "keys_share": 50},
        dimensions={
            "day": {"column": "at", "truncate": "day", "required": True, "comment": "c"},
            "page": {"column": "page", "required": True, "comment": "c"},
            "region": {"column": "region", "comment": "c"},
        },
    )
    report = ready.aggregate(found, CALLS, MEMBERS)
    table = frame("analytics.dp_found")
    assert report.rows == 3 * 3 * table["region"].n_unique()
    alone = policy(
        "dp_alone",
        {"keys": "private", "epsilon": 1, "delta": 1e-9},
        dimensions={
            "day": {"column": "at", "truncate": "day", "required": True, "comment": "c"},
            "session": {"column": "session_hash", "comment": "c"},
        },
    )
    report = ready.aggregate(alone, CALLS, MEMBERS)
    assert report.rows == 0
    assert report.statistics["groups_below_threshold"] == report.statistics["groups"] > 100


def test_rows_without_a_required_or_known_key_are_counted_as_such(ready: World) -> None:
    required = policy(
        "dp_required",
        {"keys": {"day": "landed", "page": ["home", "cart"]}},
        dimensions={
            "day": {"column": "at", "truncate": "day", "required": True, "comment": "c"},
            "page": {"column": "page", "required": True, "comment": "c"},
        },
    )
    found = answers(ready, required, CALLS, MEMBERS)
    rows = frame("anonymized.anonymized_dp_visits")
    other = rows.filter(pl.col("page").is_null() | (pl.col("page") == "help")).height
    assert found.filter(~pl.col(COMPLETE))["_all_rows"].sum() == other > 0
    assert found.filter(~pl.col(COMPLETE))[PEOPLE].sum() == 0
    report = ready.aggregate(required, CALLS, MEMBERS)
    assert report.statistics["rows_without_dimension"] == other
    assert {row["page"] for row in frame("analytics.dp_required").to_dicts()} == {"home", "cart"}

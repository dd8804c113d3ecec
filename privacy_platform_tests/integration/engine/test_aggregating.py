"""Aggregates equal what Polars computes from the same tables, and no group of few people is shown."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from privacy_platform.engine import release_aggregate as release_aggregate_module
from privacy_platform.engine import shares
from privacy_platform.engine.aggregate import people_of
from privacy_platform.engine.exact import compared, necessary
from privacy_platform.engine.gate import WarehouseError, hold_all, pin, releasing
from privacy_platform.engine.release_anonymized import UpstreamMissingError
from privacy_platform.engine.shares import Share, Shares
from privacy_platform.engine.sources import zone
from privacy_platform.engine.stage import StageError
from privacy_platform.policy.compile import aggregate_table, anonymized_table
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.private import PEOPLE
from privacy_platform.policy.tables import WHOLE, Column, ColumnType
from privacy_platform.warehouse.checks import group_size_check
from privacy_platform.warehouse.release import Release, open_staging
from privacy_platform.warehouse.tables import partition_name, partitions
from privacy_platform_tests.integration.engine.support import (
    World,
    days,
    execute,
    exists,
    figures,
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

MEMBERS = people_policy("agg_people")
CALLS = visits_policy("agg_visits", "agg_people")


def policy(name: str, **changes: Any) -> AggregatePolicy:
    document: dict[str, Any] = {
        "aggregate": name,
        "description": "Visits.",
        "source": "anonymized_agg_visits",
        "unit": "token",
        "minimum_group_size": 3,
        "join": {"table": "anonymized_agg_people", "by": "token", "columns": ["region", "active"]},
        "derive": {"length": {"span": "at", "by": "session_hash"}},
        "dimensions": {
            "day": {"column": "at", "truncate": "day", "required": True, "comment": "c"},
            "page": {"column": "page", "comment": "c"},
            "region": {"column": "region", "comment": "c"},
        },
        "measures": {
            "visits": {"kind": "count", "comment": "c"},
            "people": {"kind": "count_distinct", "column": "token", "comment": "c"},
            "carts": {"kind": "count", "where": {"page": "cart"}, "comment": "c"},
            "mean_price": {"kind": "mean", "column": "price", "comment": "c"},
            "mean_cart": {"kind": "mean", "column": "price", "where": {"page": "cart"}, "comment": "c"},
            "revenue": {"kind": "sum", "column": "price", "times": "items", "where": {"page": "cart"}, "comment": "c"},
            "carts_a_visit": {"kind": "ratio", "numerator": "carts", "denominator": "visits", "comment": "c"},
            "visits_a_cart": {"kind": "ratio", "numerator": "visits", "denominator": "carts", "comment": "c"},
            "session_length": {"kind": "mean", "column": "length", "once_per": "session_hash", "comment": "c"},
            "spread": {"kind": "variance", "column": "price", "where": {"page": "cart"}, "comment": "c"},
            "upper": {"kind": "quantile", "column": "price", "q": 0.75, "comment": "c"},
            "prices": {"kind": "histogram", "column": "price", "edges": [0, 3, 7], "comment": "c"},
        },
    }
    return AggregatePolicy.model_validate(document | changes)


@pytest.fixture(scope="module")
def ready(world: World) -> World:
    crowd = [person(n) | ({"city": None} if n % 9 == 0 else {}) for n in range(40)]
    world.land(MEMBERS, world.put("people.jsonl", crowd))
    world.anonymize(MEMBERS)
    # Two people share the name of each session, and each has several rows in it.
    rows = [visit(n, 40, price=n % 7 + 0.25, session=f"session-{n % 80 // 2}") for n in range(400)]
    for row in rows[::13]:
        row["session"] = None
    for row in rows[::17]:
        row["price"] = None
    world.land(CALLS, world.put("visits.jsonl", rows), selected=days(3))
    world.anonymize(CALLS, MEMBERS, selected=days(3))
    return world


def _watch_dealing(monkeypatch: pytest.MonkeyPatch, *, lost: bool = False) -> list[tuple[str, Path]]:
    """Have rows dealt out into files, and return these with their tables; lost they are gone before they are read."""
    monkeypatch.setattr(shares, "_DEALT_BYTES", 1)
    deal, files = Shares._dealt, list[tuple[str, Path]]()

    def dealt(self: Shares, spark: "SparkSession") -> list[Share]:
        found = deal(self, spark)
        assert found == sorted(found, key=lambda share: -share.size)
        assert found[0].size > found[-1].size
        for share in found:
            files.extend((table.name, Path(path)) for table, of in share.files.items() for _, path in of if path)
        for _, path in files:
            assert path.exists()
            if lost:
                path.unlink()
        return found

    monkeypatch.setattr(Shares, "_dealt", dealt)
    return files


def _length() -> pl.Expr:
    return (pl.col("at").max() - pl.col("at").min()).over("token", "session_hash").dt.total_microseconds() / 1e6


def _unless_few(figure: pl.Expr, chosen: pl.Expr, minimum: int) -> pl.Expr:
    people = pl.col("token").filter(chosen).n_unique()
    return pl.when((people == 0) | (people >= minimum)).then(figure)


def brute_force(minimum: int) -> pl.DataFrame:
    """The aggregate of `policy`, in Polars, from the anonymized tables."""
    visits = frame("anonymized.anonymized_agg_visits")
    people = frame("anonymized.anonymized_agg_people").select("token", "region", "active")
    rows = visits.join(people, on="token", how="left").with_columns(
        pl.col("at").dt.date().alias("day"),
        _length().alias("length"),
        pl.col("page").fill_null("unknown").alias("page_shown"),
        pl.col("region").fill_null("unknown"),
    )
    keys = ["day", "page_shown", "region"]
    cart, priced = pl.col("page") == "cart", pl.col("price").is_not_null()
    groups = rows.group_by(keys).agg(
        pl.len().alias("visits"),
        pl.col("token").n_unique().alias("people"),
        cart.sum().alias("carts"),
        pl.col("price").mean().alias("mean_price"),
        pl.col("price").filter(cart).mean().alias("mean_cart"),
        (pl.col("price") * pl.col("items")).filter(cart).sum().alias("revenue"),
        _unless_few(pl.col("price").filter(cart).var(ddof=0), cart & priced, minimum).alias("spread"),
        _unless_few(pl.col("price").quantile(0.75, "linear"), priced, minimum).alias("upper"),
        _unless_few((pl.col("price") < 3).sum(), pl.col("price") < 3, minimum).alias("prices_1"),
        _unless_few((pl.col("price") >= 3).sum(), pl.col("price") >= 3, minimum).alias("prices_2"),
    )
    sessions = (
        rows.filter(pl.col("session_hash").is_not_null())
        .unique([*keys, "token", "session_hash"])
        .group_by(keys)
        .agg(pl.col("length").mean().alias("session_length"))
    )
    return (
        groups.join(sessions, on=keys, how="left")
        .with_columns(
            (pl.col("carts") / pl.col("visits")).alias("carts_a_visit"),
            pl.when(pl.col("carts") > 0).then(pl.col("visits") / pl.col("carts")).alias("visits_a_cart"),
        )
        .filter(pl.col("people") >= minimum)
        .rename({"page_shown": "page"})
    )


@pytest.mark.parametrize(
    ("minimum", "processors", "files"), [(2, 1, "none"), (6, 2, "none"), (2, 9, "none"), (6, 2, "all"), (2, 3, "lost")]
)
def test_figures_are_those_of_a_brute_force_computation(
    ready: World, minimum: int, processors: int, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in many shares of the people, some of them of nobody, dealt out into files, and these lost."""
    dealt = _watch_dealing(monkeypatch, lost=files == "lost") if files != "none" else []
    monkeypatch.setenv("PRIVACY_PLATFORM_PARALLELISM", str(processors))
    monkeypatch.setattr(zone, "_LEAST_BLOCKS", 1)
    name = f"visits_min_{minimum}_{processors}_{files}"
    report = ready.aggregate(policy(name, minimum_group_size=minimum), CALLS, MEMBERS)
    tables = {"anonymized_agg_visits", "anonymized_agg_people"}
    assert {table for table, _ in dealt} == (tables if files != "none" else set())
    assert not any(path.exists() for _, path in dealt)
    expected, everything = brute_force(minimum), brute_force(0)
    found = frame(f"analytics.{name}")
    keys = ["day", "page", "region"]
    assert found.columns == [*keys, *(f for n, m in policy(name).measures.items() for f in m.figures(n))]
    assert found.select(keys).sort(keys).rows() == expected.select(keys).sort(keys).rows()
    for (key, ours), (_, theirs) in zip(
        sorted((row[:3], row[3:]) for row in found.rows()),
        sorted((row[:3], row[3:]) for row in expected.select(found.columns).rows()),
        strict=True,
    ):
        assert ours == pytest.approx(theirs, nan_ok=False), key
    small = everything.filter(pl.col("people") < minimum)
    assert figures(report, "groups", "small_groups", "people_in_small_groups", "read") == {
        "groups": everything.height,
        "small_groups": small.height,
        "people_in_small_groups": small["people"].sum(),
        "read": 400,
    }
    assert report.rows > 0
    assert small.height > 0
    assert all(check.passed for check in report.checks)
    assert staging_is_empty()


def test_dealt_rows_do_not_stay_when_what_is_made_of_them_fails(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    dealt, stage = _watch_dealing(monkeypatch), shares.frame_stage

    def failing(*args: Any) -> list[pl.DataFrame]:
        if dealt:
            raise StageError("a task failed")
        return stage(*args)

    monkeypatch.setattr(shares, "frame_stage", failing)
    monkeypatch.setattr(zone, "_LEAST_BLOCKS", 1)
    measures = {"visits": {"kind": "count", "comment": "c"}}
    with pytest.raises(StageError):
        ready.aggregate(policy("visits_failed", measures=measures), CALLS, MEMBERS)
    assert dealt
    assert not any(path.exists() for _, path in dealt)


def test_more_pieces_than_processors_keep_all_of_these_at_work_to_the_end(
    ready: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zone, "_LEAST_BLOCKS", 1)
    source = anonymized_table(CALLS)
    [(size,)] = query(
        "SELECT sum(pg_relation_size(relid))::bigint FROM pg_partition_tree(%s) WHERE isleaf", source.qualified
    )
    with releasing(source) as connection:
        names = [partition_name(source, partition) for partition in partitions(connection, source)]
        splits = zone.relation_splits(connection, source.zone, names, parallelism=4, most=size // 5)
    assert [split.index for split in splits] == list(range(8))


def test_the_size_of_groups_is_for_the_check_alone(ready: World) -> None:
    ready.aggregate(policy("visits_hidden"), CALLS, MEMBERS)
    assert PEOPLE not in frame("analytics.visits_hidden").columns
    assert query(
        "SELECT count(*) FROM pg_attribute WHERE attrelid::regclass::text LIKE '%%visits_hidden%%' AND attname = %s",
        PEOPLE,
    ) == [(0,)]


def test_groups_all_too_small_leave_an_empty_table(ready: World) -> None:
    report = ready.aggregate(policy("visits_none", minimum_group_size=1000), CALLS, MEMBERS)
    assert (report.rows, report.statistics["small_groups"]) == (0, report.statistics["groups"])
    assert exists("analytics.visits_none")


def test_a_required_dimension_leaves_its_nulls_out_and_a_flag_is_shown_as_text(ready: World) -> None:
    dimensions = {
        "page": {"column": "page", "required": True, "comment": "c"},
        "active": {"column": "active", "comment": "c"},
    }
    ready.aggregate(policy("visits_required", dimensions=dimensions), CALLS, MEMBERS)
    found = frame("analytics.visits_required")
    assert set(found["page"]) == {"home", "cart", "help"}
    assert set(found["active"]) == {"true", "false"}
    visits = frame("anonymized.anonymized_agg_visits")
    assert found["visits"].sum() == visits["page"].is_not_null().sum()


@pytest.mark.parametrize(("processors", "files"), [(2, False), (3, True)])
def test_rows_without_a_required_dimension_are_counted_and_not_read(
    ready: World, processors: int, files: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a row's figure depends on the others of its session."""
    dealt = _watch_dealing(monkeypatch) if files else []
    monkeypatch.setenv("PRIVACY_PLATFORM_PARALLELISM", str(processors))
    monkeypatch.setattr(zone, "_LEAST_BLOCKS", 1)
    dimensions = {"page": {"column": "page", "required": True, "comment": "c"}}
    measures = {
        "visits": {"kind": "count", "comment": "c"},
        "people": {"kind": "count_distinct", "column": "token", "comment": "c"},
        "upper": {"kind": "quantile", "column": "price", "q": 0.75, "comment": "c"},
    }
    changes: dict[str, Any] = {"dimensions": dimensions, "measures": measures, "join": None}
    pages = policy(f"visits_pages_{processors}", derive={}, **changes)
    assert necessary(pages, anonymized_table(CALLS)) == ("page",)
    report = ready.aggregate(pages, CALLS)
    assert {table for table, _ in dealt} == ({"anonymized_agg_visits"} if files else set())
    visits = frame("anonymized.anonymized_agg_visits")
    price = pl.col("price")
    expected = visits.drop_nulls("page").group_by("page").agg(
        pl.len(), pl.col("token").n_unique(), price.quantile(0.75, "linear")
    )  # fmt: skip
    assert sorted(frame(f"analytics.{pages.aggregate}").rows()) == sorted(expected.rows())
    nulls = visits["page"].null_count()
    assert nulls
    assert figures(report, "read", "rows_shown", "rows_without_dimension") == {
        "read": visits.height,
        "rows_shown": visits.height - nulls,
        "rows_without_dimension": nulls,
    }
    assert all(check.passed for check in report.checks)
    assert necessary(policy("visits_sessions", **changes), anonymized_table(CALLS)) == ()
    days = {"day": {"column": "at", "truncate": "day", "required": True, "comment": "c"}}
    changes |= {"derive": {}, "dimensions": days}
    assert necessary(policy("visits_days", **changes), anonymized_table(CALLS)) == ()


def test_only_what_is_compared_comes_as_a_hash() -> None:
    tables = [anonymized_table(CALLS), anonymized_table(MEMBERS)]
    assert compared(policy("visits_hashed"), tables) == {"token", "session_hash"}
    shown = {"session": {"column": "session_hash", "comment": "c"}}
    assert compared(policy("visits_by_session", dimensions=shown), tables) == {"token"}
    chosen = {"visits": {"kind": "count", "where": {"session_hash": "x"}, "comment": "c"}}
    assert compared(policy("visits_of_session", measures=chosen), tables) == {"token"}
    sessions = {"table": "anonymized_agg_people", "by": "session_hash", "columns": ["region"]}
    assert compared(policy("visits_joined", join=sessions), tables) == {"token"}
    people = {"person": {"column": "token", "comment": "c"}}
    assert compared(policy("visits_by_person", dimensions=people), tables) == {"session_hash"}
    one = {"visits": {"kind": "count", "where": {"token": "x"}, "comment": "c"}}
    assert compared(policy("visits_of_one", measures=one), tables) == {"session_hash"}
    numbers = {"length": {"span": "at", "by": "items"}}
    once = {"visits": {"kind": "mean", "column": "price", "once_per": "items", "comment": "c"}}
    assert compared(policy("visits_numbered", derive=numbers, measures=once), tables) == {"token"}


def test_months_begin_on_their_first_day(ready: World) -> None:
    dimensions = {"month": {"column": "joined", "truncate": "month", "required": True, "comment": "c"}}
    measures = {"people": {"kind": "count_distinct", "column": "token", "comment": "c"}}
    monthly = policy(
        "people_monthly", source="anonymized_agg_people", join=None, derive={}, dimensions=dimensions, measures=measures
    )
    ready.aggregate(monthly, MEMBERS)
    found = dict(frame("analytics.people_monthly").rows())
    people = frame("anonymized.anonymized_agg_people")
    expected = people.group_by(pl.col("joined").dt.date().dt.truncate("1mo")).agg(pl.len())
    assert found == dict(expected.rows())
    assert date(2025, 1, 1) in found


def test_a_group_that_slipped_through_fails_the_check(ready: World) -> None:
    policies = PolicySet({p.dataset: p for p in (MEMBERS, CALLS)}, {})
    target = aggregate_table(policy("visits_slip"), policies)
    hidden = Column(PEOPLE, ColumnType.BIGINT, "c", nullable=False)
    with releasing(target) as connection:
        release = Release(target, (WHOLE,), hidden=(hidden,))
        open_staging(connection, release)
        for people, passes in ((3, True), (2, False)):
            connection.execute(
                f'INSERT INTO staging."{release.staging}" (day, page, region, {PEOPLE}) VALUES (%s, %s, %s, %s)',
                ["2024-03-01", "home", f"region {people}", people],
            )
            connection.commit()
            outcome = group_size_check(connection, release, column=PEOPLE, minimum=3)
            assert outcome.passed is passes
        assert outcome.message.startswith("1 groups show figures of fewer than 3 people")
        assert outcome.figures == {"groups": 2, "smallest_group": 2, "minimum": 3}


def test_a_figure_of_few_people_in_a_large_group_is_left_out(ready: World) -> None:
    minimum = 6
    conditions = {"carts": {"page": "cart"}, "some": {"page": "cart", "price": "3.25"}, "none": {"price": "77.5"}}
    measures = {
        f"{kind}_{name}": {"kind": kind, "column": "price", "where": where, "comment": "c"}
        for kind in ("count", "sum")
        for name, where in conditions.items()
    }
    dimensions = {"region": {"column": "region", "comment": "c"}}
    changes = {"dimensions": dimensions, "measures": measures, "minimum_group_size": minimum}
    ready.aggregate(policy("visits_few", **changes), CALLS, MEMBERS)
    people = frame("anonymized.anonymized_agg_people").select("token", "region")
    rows = frame("anonymized.anonymized_agg_visits").join(people, on="token", how="left")
    rows = rows.with_columns(pl.col("region").fill_null("unknown"))
    left_out = shown = 0
    for row in frame("analytics.visits_few").iter_rows(named=True):
        carts = rows.filter((pl.col("region") == row["region"]) & (pl.col("page") == "cart"))
        for name, chosen in (("carts", carts), ("some", carts.filter(pl.col("price") == 3.25))):
            few = 0 < chosen["token"].n_unique() < minimum
            assert row[f"count_{name}"] == (None if few else chosen.height)
            assert (row[f"sum_{name}"] is None) == (
                0 < chosen.filter(pl.col("price").is_not_null())["token"].n_unique() < minimum
            )
            left_out, shown = left_out + few, shown + (not few)
        assert (row["count_none"], row["sum_none"]) == (0, 0.0)  # of nobody there is nothing to hide
    assert left_out
    assert shown


def test_a_figure_of_few_people_that_slipped_through_fails_the_check(ready: World) -> None:
    policies = PolicySet({p.dataset: p for p in (MEMBERS, CALLS)}, {})
    target = aggregate_table(policy("visits_slip"), policies)
    hidden = tuple(Column(name, ColumnType.BIGINT, "c", nullable=False) for name in (PEOPLE, people_of("revenue")))
    with releasing(target) as connection:
        release = Release(target, (WHOLE,), hidden=hidden)
        open_staging(connection, release)
        for buyers, revenue, passes in ((0, 0.0, True), (2, None, True), (3, 9.0, True), (2, 9.0, False)):
            connection.execute(
                f'INSERT INTO staging."{release.staging}" (day, page, region, revenue, {PEOPLE}, '
                f"{people_of('revenue')}) VALUES ('2024-03-01', 'home', %s, %s, 5, %s)",
                [f"region {buyers} {revenue}", revenue, buyers],
            )
            connection.commit()
            outcome = group_size_check(
                connection, release, column=PEOPLE, minimum=3, measures={"revenue": people_of("revenue")}
            )
            assert outcome.passed is passes


def test_rows_released_anew_while_they_are_read_are_not_published(ready: World) -> None:
    visits = anonymized_table(CALLS)
    with releasing(
        aggregate_table(policy("visits_pinned"), PolicySet({p.dataset: p for p in (MEMBERS, CALLS)}, {}))
    ) as (connection):
        pinned = pin(connection, {visits: partitions(connection, visits)})
        connection.commit()
        hold_all(connection, visits, pinned)
        connection.rollback()
        ready.anonymize(CALLS, MEMBERS, selected=days(3))
        with pytest.raises(WarehouseError, match="released anew while it was read"):
            hold_all(connection, visits, pinned)


@pytest.mark.parametrize(
    ("when", "remade", "refused"),
    [
        ("once", False, ""),
        ("once", True, ""),
        ("always", False, "is being released"),
        ("later", False, "released anew while it was read"),
        ("later", True, "released anew while it was read"),
    ],
)
def test_what_is_released_when_reading_begins_is_read_whole_or_not_published(
    ready: World, when: str, remade: bool, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def release() -> None:
        if remade:
            execute("DROP TABLE anonymized.anonymized_agg_visits CASCADE")
        ready.anonymize(CALLS, MEMBERS, selected=days(3))

    release_meanwhile(monkeypatch, release_aggregate_module, when, release)
    name = f"visits_{when}_{remade}".lower()
    if refused:
        with pytest.raises(WarehouseError, match=refused):
            ready.aggregate(policy(name), CALLS, MEMBERS)
        assert not exists(f"analytics.{name}")
    else:
        report = ready.aggregate(policy(name), CALLS, MEMBERS)
        assert report.statistics["read"] == 400
        assert all(check.passed for check in report.checks)
    assert staging_is_empty()


def test_an_aggregate_without_its_tables_names_them(ready: World) -> None:
    lonely = visits_policy("agg_lonely", "agg_people")
    with pytest.raises(UpstreamMissingError, match="materialize anonymized_agg_lonely first"):
        ready.aggregate(policy("visits_lonely", source="anonymized_agg_lonely"), lonely, MEMBERS)
    assert not exists("analytics.visits_lonely")

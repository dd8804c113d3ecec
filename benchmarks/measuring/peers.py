"""Other ways of doing the pipeline's work, measured on the same files, into the same server, in the same run.

* DuckDB + ADBC: users and events, one unsealed, unchecked, unindexed load each (`peers.duckdb_users`,
  `peers.duckdb_events`);
* Polars streaming + ADBC: events (`peers.polars_events`);
* Spark SQL expressions + JDBC batches: events, fewer of them, in a process of its own (`peers.spark_events`);
* the floor: COPY of the finished rows of both tables, by one connection (`peers.finished`);
* the exact aggregates in DuckDB over Parquet (`peers.duckdb_aggregates`).

What the peers have made is compared with ours: columns that no key, search or time has a part in, row by row, and all
figures of the aggregates.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
import polars.selectors as cs
from psycopg import sql

from benchmarks.measuring.meter import Meter
from benchmarks.measuring.results import ROW_PATH, Ratio, RunResult, StageResult
from benchmarks.measuring.stages import DATASETS, EXACT, Landing
from benchmarks.peers import duckdb_events, duckdb_users, polars_events, tables
from benchmarks.peers.duckdb_aggregates import QUERIES, Aggregator
from benchmarks.peers.finished import Finished, export
from benchmarks.users_end_to_end import head
from privacy_platform.engine.stage import place_of
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.compile import aggregate_table, anonymized_table
from privacy_platform.policy.load import PACKAGED, load_policies
from privacy_platform.policy.tables import Table
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import STAGING

__all__ = ["COMPARED", "Record", "compared", "differing_groups", "ratios"]

CITIES = PACKAGED / "hierarchies" / "city.csv"
DUCKDB, POLARS, JDBC, FLOOR = "DuckDB", "Polars streaming", "Spark SQL + JDBC", "floor, bare COPY"
OVER_PARQUET = "DuckDB over Parquet"
COMPARED: Mapping[str, Sequence[str]] = {
    "users": ("ip_subnet", "phone_suffix", "last_login", "account_status", "subscription_tier", "lifetime_value",
              "total_purchases"),
    "events": ("event_id", "event_type", "timestamp", "page_url", "referrer", "device_type", "browser", "ip_subnet",
               "search_query", "product_id", "quantity", "price", "video_id", "duration_seconds"),
}  # fmt: skip
"""Dataset → the columns that must be the same whoever makes them."""
_COMPARED_ROWS = 1_000_000
_WARM_UP, _JDBC_WARM_UP = 2_000, 20_000
_TOLERANCE = 1e-9


class PeerError(PrivacyPlatformError):
    """A peer has not done the work: its time means nothing."""


@dataclass(frozen=True)
class _Peers:
    """What all of them need."""

    landing: Landing
    meter: Meter
    tables: Mapping[str, Table]

    def file(self, dataset: str) -> Path:
        """The one file of a dataset."""
        (path,) = self.landing.files[dataset]
        return path

    @contextmanager
    def few(self) -> Iterator[tuple[Path, Path]]:
        """The first rows of both files: a peer is warm when it is measured, as our session is."""
        with self.meter.scratch("few") as folder:
            users, events = (head(self.file(d), folder / f"{d}.jsonl", _WARM_UP) for d in DATASETS)
            yield users, events

    def load(self, who: str, dataset: str, run: Callable[[str], object]) -> tuple[StageResult, str]:
        """One peer's load into a table of its own, which stays; returns the table too."""
        target = f"bench_{dataset}"
        tables.create(self.tables[dataset], target)
        rows = self.landing.rows(dataset)

        def all_of_it() -> int:
            run(target)
            return rows

        result = self.meter.measure(f"{who}, {dataset}", "peers", rows, all_of_it)
        arrived = tables.count(target)
        if not result.error and arrived != rows:
            result = result.model_copy(update={"error": f"{arrived} of {rows} rows arrived"})
        return result, target


class Record:
    """The result as it grows; it is kept after everything that was found."""

    def __init__(self, result: RunResult, keep: Callable[[RunResult], object]) -> None:
        self.result = result
        self._keep = keep

    def add(self, stage: StageResult) -> None:
        """A peer was measured."""
        self._grow(peers=(*self.result.peers, stage))
        self._grow(ratios=tuple(ratios(self.result)))

    def note(self, name: str, find: Callable[[], object]) -> None:
        """Something to tell beside; what goes wrong with it must not cost the figures."""
        try:
            found = find()
        except Exception as error:
            found = f"not found out ({place_of(error)})"
        self._grow(facts={**self.result.facts, name: found})

    def _grow(self, **fields: object) -> None:
        self.result = self.result.model_copy(update=fields)
        self._keep(self.result)


def compared(
    result: RunResult,
    landing: Landing,
    meter: Meter,
    *,
    jdbc_events: int = 0,
    polars: bool = True,
    keep: Callable[[RunResult], object] = lambda _: None,
) -> RunResult:
    """The result of a run with those of the peers, and the ratios.

    Args:
        result: of the run, whose tables stand and whose files are there.
        landing: the files.
        meter: of the run.
        jdbc_events: events of the JDBC peer; 0 leaves it out.
        polars: whether Polars is measured.
        keep: is given the result whenever it has grown.
    """
    _settle()
    policies = load_policies()
    peers = _Peers(landing, meter, {name: anonymized_table(policies.datasets[name]) for name in landing.files})
    record = Record(result, keep)
    _loads(peers, record, polars=polars)
    if jdbc_events:
        record.add(_jdbc(peers, min(jdbc_events, landing.events)))
    with meter.scratch("finished") as folder:
        finished: dict[str, Finished] = {}
        for name, table in peers.tables.items():
            record.note(f"finished rows, {name}", partial(_export, finished, name, table, folder))
        for name, rows in finished.items():
            record.add(_floor(peers, name, rows))
        if len(finished) == len(peers.tables):
            _aggregates(meter, finished, record)
    return record.result


def _loads(peers: _Peers, record: Record, *, polars: bool) -> None:
    """DuckDB and Polars, from the files to tables."""
    loads: list[tuple[str, str, Callable[[Path, Path, str], object]]] = [
        (DUCKDB, "users", lambda users, _, target: duckdb_users.load(users, CITIES, target)),
        (DUCKDB, "events", lambda users, events, target: duckdb_events.load(events, users, target)),
    ]
    if polars:
        loads.append((POLARS, "events", lambda users, events, target: polars_events.load(events, users, target)))
    for who, dataset, run in loads:
        table = peers.tables[dataset]
        with peers.few() as (few_users, few_events), suppress(Exception):  # what is wrong shows when it is measured
            tables.create(table, f"bench_{dataset}")
            run(few_users, few_events, f"bench_{dataset}")
        done, target = peers.load(who, dataset, partial(run, peers.file("users"), peers.file("events")))
        record.add(done)
        if not done.error:
            record.note(f"rows not as {who}'s, {dataset}", partial(_differences, table, target, dataset, peers.landing))
        tables.create(table, target)  # gives back the room


def _export(finished: dict[str, Finished], name: str, table: Table, folder: Path) -> int:
    finished[name] = export(table, folder)
    return finished[name].rows


def _settle(patience: float = 600.0) -> None:
    """See that PostgreSQL is done with what we have loaded: cleaning that up must not slow the peers down."""
    end = time.monotonic() + patience
    with connect(Role.ADMIN, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
        busy = "SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
        while connection.execute(busy).fetchone() is not None and time.monotonic() < end:
            time.sleep(0.5)


def _differences(table: Table, theirs: str, dataset: str, landing: Landing) -> int:
    """Rows of ours that a peer does not have, in a sample of some million rows at most."""
    one_in = max(1, landing.rows(dataset) // _COMPARED_ROWS)
    names = sql.SQL(", ").join(map(sql.Identifier, COMPARED[dataset]))
    # Of events the same sample on both sides; of users all, for their keys are each one's own.
    sampled = sql.SQL("WHERE hashtext(event_id) % {} = 0").format(sql.Literal(one_in))
    where = sampled if dataset == "events" and one_in > 1 else sql.SQL("")
    query = sql.SQL("SELECT count(*) FROM (SELECT {n} FROM {a} {w} EXCEPT ALL SELECT {n} FROM {b} {w}) d").format(
        n=names, a=sql.Identifier(table.zone, table.name), b=sql.Identifier(STAGING, theirs), w=where
    )
    with connect(Role.ADMIN) as connection:
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def _jdbc(peers: _Peers, rows: int) -> StageResult:
    """Spark SQL and JDBC on the first events; its own seconds, since the session's start is not to count."""
    users, events = peers.file("users"), peers.file("events")
    few = head(events, events.with_name("jdbc-few.jsonl"), min(_JDBC_WARM_UP, rows))
    some = head(events, events.with_name("jdbc.jsonl"), rows)
    targets = ("bench_jdbc_few", "bench_jdbc")
    for target in targets:
        tables.create(peers.tables["events"], target)
    seconds: list[float] = []
    command = [sys.executable, "-m", "benchmarks.peers.spark_events", str(few), str(some), str(users), *targets]

    def run() -> int:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=7200, check=False)
        try:
            answer = json.loads(ended.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            raise PeerError("not measured: needs the driver from Maven Central") from None
        if answer["rows"] != rows:
            raise PeerError(f"{answer['rows']} of {rows} rows arrived")
        seconds.append(answer["seconds"])
        return rows

    done = peers.meter.measure(f"{JDBC}, events", "peers", rows, run)
    for target in targets:
        tables.drop(target)
    for file in (few, some):
        file.unlink()
    return done.model_copy(update={"seconds": round(seconds[0], 3), "cpu": {}}) if seconds else done


def _floor(peers: _Peers, dataset: str, finished: Finished) -> StageResult:
    target = "bench_floor"
    tables.create(peers.tables[dataset], target)
    done = peers.meter.measure(f"{FLOOR}, {dataset}", "peers", finished.rows, lambda: finished.copy(target))
    tables.drop(target)
    return done


def _aggregates(meter: Meter, finished: Mapping[str, Finished], record: Record) -> None:
    """DuckDB's aggregates, and how many groups differ from ours."""
    policies = load_policies()
    with Aggregator(finished["users"].parquet, finished["events"].parquet) as duckdb:
        for name in QUERIES:
            policy = policies.aggregates[name]
            source = policies.anonymized_tables[policy.source].dataset
            frames: list[pl.DataFrame] = []

            def run(name: str = name, frames: list[pl.DataFrame] = frames) -> int:
                frames.append(duckdb.compute(name))
                return frames[0].height

            record.add(meter.measure(f"{OVER_PARQUET}, {name}", "peers", finished[source].rows, run))
            table = aggregate_table(policy, policies).name + (EXACT if policy.is_private else "")
            keys = [*(["window_start"] if policy.window else []), *policy.dimensions]
            for frame in frames:
                record.note(f"groups not as DuckDB's, {name}", partial(_differing, table, frame, keys))


def _differing(table: str, theirs: pl.DataFrame, keys: Sequence[str]) -> int:
    return differing_groups(_published(table, theirs.columns), theirs, keys)


def _published(table: str, columns: Iterable[str]) -> pl.DataFrame:
    names = list(columns)
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier("analytics", table)
    )
    with connect(Role.ADMIN) as connection:
        rows = connection.execute(query).fetchall()
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)


def differing_groups(ours: pl.DataFrame, theirs: pl.DataFrame, keys: Sequence[str]) -> int:
    """Groups of either side that the other has not, or with another figure (numbers may differ by rounding)."""
    if ours.is_empty() or theirs.is_empty():  # of no type, perhaps
        return ours.height + theirs.height
    figures = [name for name in ours.columns if name not in keys]
    moments = cs.datetime().dt.replace_time_zone(None).dt.cast_time_unit("us")
    ours, theirs = ours.with_columns(moments), theirs.with_columns(moments)
    both = ours.join(theirs, on=keys, how="full", coalesce=False, suffix="_theirs", nulls_equal=True)
    same = [pl.col(keys[0]).is_not_null() & pl.col(f"{keys[0]}_theirs").is_not_null()]
    for name in figures:
        a, b = pl.col(name).cast(pl.Float64), pl.col(f"{name}_theirs").cast(pl.Float64)
        close = (a - b).abs() <= _TOLERANCE * pl.max_horizontal(a.abs(), b.abs(), 1.0)
        same.append(pl.when(a.is_null() | b.is_null()).then(a.is_null() & b.is_null()).otherwise(close))
    return both.filter(~pl.all_horizontal(same)).height


def ratios(result: RunResult) -> list[Ratio]:
    """Ours against the peers: ratios of seconds, of time a row where the rows are not as many."""
    exact = [f"{name}, exact" if result.stage(f"{name}, exact") else name for name in QUERIES]

    def ratio(ours: Sequence[str], theirs: Sequence[str]) -> float | None:
        above, below = result.seconds(ours), result.seconds(theirs)
        return None if above is None or not below else round(above / below, 2)

    def paths(who: str) -> list[str]:
        return [f"{who}, users", f"{who}, events"]

    found = [Ratio(name="row path / DuckDB's load", value=ratio(ROW_PATH, paths(DUCKDB)), limit=1.8)]
    found += [Ratio(name=f"  {d}", value=ratio([f"raw_{d}", f"anonymized_{d}"], [f"{DUCKDB}, {d}"])) for d in DATASETS]
    found.append(Ratio(name="row path / floor", value=ratio(ROW_PATH, paths(FLOOR))))
    found.append(Ratio(name="DuckDB's load / floor", value=ratio(paths(DUCKDB), paths(FLOOR))))
    events = ["raw_events", "anonymized_events"]
    found.append(Ratio(name="row path, events / Polars streaming", value=ratio(events, [f"{POLARS}, events"])))
    jdbc, ours = result.stage(f"{JDBC}, events"), result.seconds(events)
    if jdbc and not jdbc.error and ours is not None:
        value = round(ours / result.events * 1e6 / jdbc.micros, 2)
        found.append(Ratio(name="row path, events / Spark SQL + JDBC, by the row", value=value))
    found.append(
        Ratio(name="exact aggregates / DuckDB over Parquet", limit=1.5,
              value=ratio(exact, [f"{OVER_PARQUET}, {name}" for name in QUERIES]))
    )  # fmt: skip
    found += [
        Ratio(name=f"  {name}", value=ratio([ours_], [f"{OVER_PARQUET}, {name}"]))
        for name, ours_ in zip(QUERIES, exact, strict=True)
    ]
    return found

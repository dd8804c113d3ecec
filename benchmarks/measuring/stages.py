"""The stages of the whole pipeline, in order, each with what it needs and what it reads."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from psycopg import Connection, sql
from pyspark.sql import SparkSession

from benchmarks.measuring.results import Balance, StageResult, TableSize
from privacy_platform.engine.gate import ReleaseReport, Run
from privacy_platform.engine.release_aggregate import release_aggregate
from privacy_platform.engine.release_anonymized import release_anonymized
from privacy_platform.engine.release_raw import release_raw
from privacy_platform.engine.release_windows import release_windows
from privacy_platform.policy.load import PolicySet, load_policies
from privacy_platform.policy.model import AggregatePolicy, DatasetPolicy
from privacy_platform.policy.tables import WHOLE, Partition
from privacy_platform.synthetic import GenerationReport, generate
from privacy_platform.warehouse.connection import Role, connect

__all__ = ["DATASETS", "END", "Landing", "Stage", "aggregate_stages", "balances", "exact_policy", "land", "row_stages",
           "table_sizes"]  # fmt: skip

DATASETS = ("users", "events")
END = date(2026, 6, 30)
"""The last day with events."""
EXACT = "_exact"
"""Ends the name of the exact twin of a private aggregate, so that both stand in the end."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the run: its part, the rows it reads, the stages it cannot do without; `after` is not measured."""

    name: str
    part: str
    rows: int
    run: Callable[[], ReleaseReport | int]
    needs: tuple[str, ...] = ()
    after: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True)
class Landing:
    """The generated files."""

    users: int
    events: int
    days: int
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    def rows(self, dataset: str) -> int:
        """Rows of a dataset."""
        return self.users if dataset == "users" else self.events

    def partitions(self, policy: DatasetPolicy) -> list[Partition]:
        """The days of events, or the whole table."""
        if policy.partition_by is None:
            return [WHOLE]
        return [Partition(END - timedelta(days=n)) for n in reversed(range(self.days))]

    def size(self, dataset: str) -> int:
        """Bytes of the files of a dataset."""
        return sum(path.stat().st_size for path in self.files[dataset] if path.exists())


def land(users: int, events: int, days: int, form: Literal["jsonl", "csv", "parquet"], folder: Path) -> Landing:
    """Generate the files."""
    made: GenerationReport = generate(
        users=users, events=events, days=days, out=folder, format=form, seed=1, end=END,
    )  # fmt: skip
    return Landing(users, events, days, {d: [f.path for f in made.files if f.dataset == d] for d in DATASETS})


def row_stages(spark: SparkSession, landing: Landing, *, keep_files: bool) -> list[Stage]:
    """The row path: raw and anonymized, users and events.

    Args:
        spark: the session.
        landing: what was generated.
        keep_files: whether files stay once they are landed.
    """
    policies = load_policies()

    def raw(policy: DatasetPolicy) -> Callable[[], ReleaseReport]:
        def run() -> ReleaseReport:
            files = landing.files[policy.dataset]
            chosen = landing.partitions(policy)
            return release_raw(lambda: spark, policy, files, Run(uuid.uuid4().hex), selected=chosen)

        return run

    def anonymized(policy: DatasetPolicy) -> Callable[[], ReleaseReport]:
        def run() -> ReleaseReport:
            chosen = landing.partitions(policy)
            return release_anonymized(lambda: spark, policy, policies, Run(uuid.uuid4().hex), selected=chosen)

        return run

    def landed(policy: DatasetPolicy) -> Callable[[], None]:
        def remove() -> None:
            for path in () if keep_files else landing.files[policy.dataset]:
                path.unlink(missing_ok=True)

        return remove

    users, events = (policies.datasets[name] for name in DATASETS)
    return [
        Stage("raw_users", "rows", landing.users, raw(users), after=landed(users)),
        Stage("raw_events", "rows", landing.events, raw(events), after=landed(events)),
        Stage("anonymized_users", "rows", landing.users, anonymized(users), ("raw_users",)),
        Stage("anonymized_events", "rows", landing.events, anonymized(events), ("raw_events", "anonymized_users")),
    ]


def aggregate_stages(spark: SparkSession, landing: Landing) -> list[Stage]:
    """All packaged aggregates: exact ones and windows first, then the private ones."""
    policies = load_policies()
    exact, private = [], []
    for policy in policies.aggregates.values():
        if policy.is_private:
            exact.append(_aggregate(spark, landing, policies, exact_policy(policy), f"{policy.aggregate}, exact"))
            private.append(_aggregate(spark, landing, policies, policy, f"{policy.aggregate}, private"))
        else:
            exact.append(_aggregate(spark, landing, policies, policy, policy.aggregate))
    return exact + private


def exact_policy(policy: AggregatePolicy) -> AggregatePolicy:
    """The exact twin of a private aggregate, by another name."""
    document = policy.model_dump(mode="json") | {"mode": "exact_with_minimum"}
    return type(policy).model_validate(document | {"aggregate": f"{policy.aggregate}{EXACT}"})


def _aggregate(spark: SparkSession, landing: Landing, policies: PolicySet, policy: AggregatePolicy, name: str) -> Stage:
    only = PolicySet(policies.datasets, {policy.aggregate: policy})

    def run() -> ReleaseReport:
        of_run = Run(uuid.uuid4().hex)
        if policy.window:
            return release_windows(policy, only, of_run)
        return release_aggregate(lambda: spark, policy, only, of_run)

    needs = (policy.source, *([policy.join.table] if policy.join else []))
    rows = landing.rows(policies.anonymized_tables[policy.source].dataset)
    return Stage(name, "private" if policy.is_private else "exact", rows, run, needs)


def balances(landing: Landing, stages: Sequence[StageResult], rows: Mapping[str, int]) -> list[Balance]:
    """What became of every row: the stages' own counts against those of the tables.

    Args:
        landing: what was generated.
        stages: those of the run.
        rows: of every zone table that stands, by its qualified name.
    """
    by_name = {stage.name: stage for stage in stages if not stage.error}
    with connect(Role.ADMIN) as connection:
        found = [
            _row_balance(connection, by_name[name], landing.rows(name.partition("_")[2]), rows)
            for name in ("raw_users", "raw_events", "anonymized_users", "anonymized_events")
            if name in by_name
        ]
        found += [
            _group_balance(connection, stage, policy, rows)
            for policy in load_policies().aggregates.values()
            for stage in (by_name.get(f"{policy.aggregate}{how}") for how in (", exact", ", private", ""))
            if stage
        ]
    return found


def _row_balance(connection: Connection, stage: StageResult, generated: int, rows: Mapping[str, int]) -> Balance:
    """Rows of a raw or anonymized table: published and quarantined are counted in the database, anew."""
    zone, _, dataset = stage.name.partition("_")
    raw = zone == "raw"
    read = generated if raw else rows[f"raw.raw_{dataset}"]
    quarantined = connection.execute(
        "SELECT count(*) FROM raw.quarantine WHERE dataset = %s AND stage = %s",
        [dataset, "landing" if raw else "anonymizing"],
    ).fetchone()
    other = ("duplicates", "already_landed", "not_selected", "blank") if raw else (
        "suppressed", "suppressed_for_k", "erased", "waiting")  # fmt: skip
    became = {
        "published": rows[f"{zone}.{stage.name}"],
        "quarantined": int(quarantined[0]) if quarantined else 0,
    }
    return Balance(stage=stage.name, read=read, became=became | {name: stage.counts.get(name, 0) for name in other})


def _group_balance(
    connection: Connection, stage: StageResult, policy: AggregatePolicy, rows: Mapping[str, int]
) -> Balance:
    """Rows of an aggregate's source; those in windows are added up from the published table."""
    read = rows[f"anonymized.{policy.source}"]
    if policy.window:
        row = connection.execute(
            sql.SQL("SELECT coalesce(sum(events), 0)::bigint FROM {}").format(
                sql.Identifier("analytics", policy.aggregate)
            )
        ).fetchone()
        became = {"in windows shown": int(row[0] if row else 0)}
        names = {"rows_in_small_groups": "in groups too small"}
    else:
        became = {}
        names = {
            "rows_shown": "in groups shown",
            "rows_in_small_groups": "in groups too small",
            "rows_counted": "counted",
            "rows_cut_off": "cut off by the bounds",
            "rows_without_dimension": "without a required dimension",
        }
    became |= {label: stage.counts[name] for name, label in names.items() if name in stage.counts}
    return Balance(stage=stage.name, read=read, became=became)


def table_sizes() -> list[TableSize]:
    """Rows and bytes of all zone tables."""
    with connect(Role.ADMIN) as connection:
        found = connection.execute(
            """
            SELECT n.nspname, p.relname, sum(pg_table_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint
            FROM pg_class p
            JOIN pg_namespace n ON n.oid = p.relnamespace
            JOIN pg_class c ON c.oid = p.oid AND p.relkind = 'r'
                OR c.oid IN (SELECT relid FROM pg_partition_tree(p.oid) WHERE isleaf)
            WHERE n.nspname IN ('raw', 'anonymized', 'analytics', 'vault') AND p.relkind IN ('p', 'r')
              AND NOT p.relispartition
            GROUP BY 1, 2 ORDER BY sum(pg_total_relation_size(c.oid)) DESC
            """
        ).fetchall()
        return [
            TableSize(name=f"{schema}.{name}", rows=_count(connection, schema, name), table=table, indexes=indexes)
            for schema, name, table, indexes in found
        ]


def _count(connection: Connection, schema: str, name: str) -> int:
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0

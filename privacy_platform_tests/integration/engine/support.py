"""A small world for the engine's tests: people, what they do, and a landing folder; policies made in memory.

Every test module names its datasets differently, so that all share one warehouse and none sees another's tables.
"""

import copy
import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from psycopg import Connection, sql

from privacy_platform.engine import gate
from privacy_platform.engine.gate import ReleaseReport, Run
from privacy_platform.engine.release_aggregate import release_aggregate
from privacy_platform.engine.release_anonymized import release_anonymized
from privacy_platform.engine.release_raw import release_raw
from privacy_platform.engine.sources.zone import enter_snapshot
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy, DatasetPolicy
from privacy_platform.policy.tables import WHOLE, Partition
from privacy_platform.vault.keyring import ensure_keyring
from privacy_platform.warehouse.connection import Role, connect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Document = dict[str, Any]
Row = dict[str, Any]
CITIES = ("San Diego", "Boston", "Chicago", "Miami")
START = date(2024, 3, 1)


def _field(kind: str, sensitivity: str, technique: object, **more: Any) -> Document:
    return {"type": kind, "sensitivity": sensitivity, "technique": technique, "comment": "c"} | more


PEOPLE: Document = {
    "description": "People.",
    "source": {"files": ["people*"]},
    "subject": "id",
    "key": "id",
    "fields": {
        "id": _field("string", "high", "tokenize", output="token", pii="user_id"),
        "email": _field("string", "high", {"hmac": {"normalize": "email"}}, output="email_hash"),
        "name": _field("string", "high", "hash", output="name_hash"),
        "age": _field("integer", "medium", {"bucket": {"edges": [0, 30, 60]}}, output="age_range"),
        "city": _field("string", "medium", {"generalize": {"hierarchy": "city", "level": "region"}}, output="region"),
        "zip": _field("string", "medium", {"mask": {"kind": "zip"}}, output="zip_prefix"),
        "ip": _field("string", "high", {"mask": {"kind": "ip"}}, output="network"),
        "phone": _field("string", "high", {"mask": {"kind": "phone"}}, output="phone_end"),
        "seen": _field("timestamp", "high", "hmac", output="seen_hash"),
        "born": _field("date", "medium", "hash", output="born_hash"),
        "weight": _field("number", "medium", {"bucket": {"edges": [0, 70]}}, output="weight_range"),
        "note": _field("string", "medium", {"scrub": {"own": ["email", "name"]}}),
        "tier": _field("string", "none", "keep"),
        "joined": _field("timestamp", "low", {"truncate": {"unit": "day"}}),
        "spent": _field("number", "none", "keep"),
        "orders": _field("integer", "none", "keep"),
        "active": _field("boolean", "none", "keep"),
    },
}
VISITS: Document = {
    "description": "Visits.",
    "source": {"files": ["visits*"]},
    "subject": "id",
    "key": "visit",
    "on_duplicate": "first",
    "partition_by": {"field": "at", "start": str(START)},
    "fields": {
        "visit": _field("string", "none", "keep"),
        "id": _field("string", "high", "tokenize", output="token"),
        "at": _field("timestamp", "low", {"truncate": {"unit": "second"}}),
        "page": _field("string", "none", "keep"),
        "session": _field("string", "high", {"hmac": {"domain": "session"}}, output="session_hash"),
        "words": _field("string", "medium", {"scrub": {"own": ["id", "subject.name", "subject.email"]}}),
        "price": _field("number", "none", "keep"),
        "items": _field("integer", "none", "keep"),
    },
}


def people_policy(name: str, **changes: Any) -> DatasetPolicy:
    """The policy of people under another name, with top-level settings changed."""
    return DatasetPolicy.model_validate({"dataset": name, **copy.deepcopy(PEOPLE), **changes})


def visits_policy(name: str, people: str, **changes: Any) -> DatasetPolicy:
    """The policy of visits of the given people."""
    return DatasetPolicy.model_validate(
        {"dataset": name, **copy.deepcopy(VISITS), "references": {"dataset": people}, **changes}
    )


def with_field(policy: DatasetPolicy, name: str, **changes: Any) -> DatasetPolicy:
    """The policy with one field changed, added, or (`technique=None`) removed."""
    document = policy.model_dump(mode="json")
    if changes.get("technique", "") is None:
        del document["fields"][name]
    else:
        document["fields"][name] = document["fields"].get(name, {"comment": "c"}) | changes
    return DatasetPolicy.model_validate(document)


def person(number: int, **changes: Any) -> Row:
    """One person; everything follows from the number."""
    return {
        "id": f"person-{number:05d}",
        "email": f"given{number}@example.org",
        "name": f"Zebediah{number}",
        "age": 20 + number % 50,
        "city": CITIES[number % 4],
        "zip": f"{92000 + number:05d}",
        "ip": f"10.1.{number % 250}.77",
        "phone": f"619-555-{number:04d}",
        "seen": f"2026-02-03T04:05:06.{number:06d}Z" if number % 3 else None,
        "born": f"19{60 + number % 40}-05-06",
        "weight": 50.5 + number % 40,
        "note": f"call Zebediah{number} or write given{number}@example.org",
        "tier": ("free", "basic")[number % 2],
        "joined": f"2025-0{1 + number % 9}-15T10:11:12Z",
        "spent": number * 1.25,
        "orders": number,
        "active": number % 5 > 0,
    } | changes


def visit(number: int, people: int, days: int = 3, **changes: Any) -> Row:
    """One visit of one of the first `people` persons, on one of the first `days` days."""
    at = START + timedelta(days=number % days)
    return {
        "visit": f"v{number}",
        "id": f"person-{number * 7 % people:05d}",
        "at": f"{at}T{number % 24:02d}:{number % 60:02d}:30Z",
        "page": ("home", "cart", "help")[number % 3] if number % 11 else None,
        "session": f"session-{number // 4}",
        "words": f"shoes for Zebediah{number * 7 % people}" if number % 2 else "red shoes",
        "price": number % 10 + 0.5,
        "items": number % 4,
    } | changes


def days(count: int) -> list[Partition]:
    """The first `count` days."""
    return [Partition(START + timedelta(days=day)) for day in range(count)]


@dataclass
class World:
    """A landing folder and the releases made from it."""

    spark: "SparkSession"
    landing: Path
    age: int = 1_000_000_000
    runs: list[str] = field(default_factory=list)

    def put(self, name: str, rows: Sequence[Row | bytes]) -> Path:
        """Write a landing file newer than those before: rows as JSON, bytes as they are."""
        path = self.landing / name
        path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows))
        self.age += 1
        os.utime(path, (self.age, self.age))
        return path

    def run(self) -> Run:
        """A new run."""
        self.runs.append(uuid.uuid4().hex)
        return Run(self.runs[-1])

    def land(self, policy: DatasetPolicy, *files: Path, selected: Sequence[Partition] = (WHOLE,)) -> ReleaseReport:
        """Land files."""
        ensure_keyring()
        return release_raw(lambda: self.spark, policy, files, self.run(), selected=selected)

    def anonymize(
        self, policy: DatasetPolicy, *others: DatasetPolicy, selected: Sequence[Partition] = (WHOLE,)
    ) -> ReleaseReport:
        """Anonymize a dataset; `others` are the datasets it refers to."""
        policies = PolicySet({each.dataset: each for each in (policy, *others)}, {})
        return release_anonymized(lambda: self.spark, policy, policies, self.run(), selected=selected)

    def aggregate(self, policy: AggregatePolicy, *datasets: DatasetPolicy) -> ReleaseReport:
        """Compute an aggregate."""
        policies = PolicySet({each.dataset: each for each in datasets}, {policy.aggregate: policy})
        return release_aggregate(lambda: self.spark, policy, policies, self.run())

    def actions(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(action, outcome, details) of the last run's audit entries."""
        return query(
            "SELECT action, outcome, details FROM governance.privacy_audit_log WHERE run_id = %s ORDER BY seq",
            self.runs[-1],
        )


def release_meanwhile(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, when: str, release: Callable[[], object]
) -> None:
    """Release what an aggregate is made from while it begins to read.

    That is around its first snapshot ("once"), around each ("always"), or when `module` enters one ("later").
    """
    take, enter = gate.snapshot, enter_snapshot
    taken, most = itertools.count(), {"once": 1, "always": 9, "later": 0}[when]

    @contextmanager
    def snapshot() -> Iterator[str]:
        with take() as seen:
            if next(taken) < most:
                release()
            yield seen

    def entered(connection: Connection, seen: str) -> None:
        if when == "later":
            release()
        enter(connection, seen)

    monkeypatch.setattr(gate, "snapshot", snapshot)
    monkeypatch.setattr(module, "enter_snapshot", entered)


def query(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of a query as administrator."""
    with connect(Role.ADMIN) as connection:
        return connection.execute(statement, values).fetchall()


def execute(statement: str, *values: Any) -> int:
    """A statement as administrator; the number of rows it changed."""
    with connect(Role.ADMIN) as connection:
        return connection.execute(statement, values).rowcount


def table(name: str, *, without: Sequence[str] = ()) -> list[Row]:
    """All rows of a zone table in order of its first column."""
    schema, relation = name.split(".")
    with connect(Role.ADMIN) as connection:
        cursor = connection.execute(sql.SQL("SELECT * FROM {} ORDER BY 1, 2").format(sql.Identifier(schema, relation)))
        names = [column.name for column in cursor.description or ()]
        return [{name: value for name, value in zip(names, row, strict=True) if name not in without} for row in cursor]


def frame(name: str) -> pl.DataFrame:
    """A zone table as a Polars frame."""
    return pl.DataFrame(table(name), infer_schema_length=None)


def exists(name: str) -> bool:
    """Whether there is such a table."""
    return query("SELECT to_regclass(%s) IS NOT NULL", name)[0][0] is True


def staging_is_empty() -> bool:
    """Whether no release has left anything behind."""
    left = query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relkind IN ('r', 'p') "
        "AND relname <> 'commits'"
    )
    return not left and query("SELECT count(*) FROM staging.commits") == [(0,)]


def figures(report: ReleaseReport, *names: str) -> Mapping[str, int]:
    """Some of a report's statistics, 0 where there is none."""
    return {name: report.statistics.get(name, 0) for name in names}

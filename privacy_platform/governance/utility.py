"""The register of how good private releases were: figures for compliance, since they are made of exact ones."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime

from psycopg import Connection
from psycopg.rows import class_row

from privacy_platform.anonymization.dp.utility import MeasureUtility

__all__ = ["StoredUtility", "latest", "record"]


@dataclass(frozen=True, kw_only=True)
class StoredUtility(MeasureUtility):
    """A row as the table holds it: `run_id` had released what was looked at."""

    measured_at: datetime
    run_id: str


def record(connection: Connection, target: str, found: Sequence[MeasureUtility]) -> None:
    """Write what was measured on a table that stands, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO governance.private_utility (measure, people_from, cells, hidden, promised_error, "
            "measured_error, within_promise, median_relative_error, target, run_id) "
            "SELECT %s, %s, %s, %s, %s, %s, %s, %s, target, run_id FROM governance.private_releases "
            "WHERE target = %s ORDER BY id DESC LIMIT 1",
            [(*astuple(each), target) for each in found],
        )


def latest(connection: Connection, target: str) -> list[StoredUtility]:
    """What was measured last on a table; empty when nothing ever was."""
    with connection.cursor(row_factory=class_row(StoredUtility)) as cursor:
        return cursor.execute(
            "SELECT measured_at, run_id, measure, people_from, cells, hidden, promised_error, measured_error, "
            "within_promise, median_relative_error FROM governance.private_utility u WHERE target = %(target)s "
            "AND measured_at = (SELECT max(measured_at) FROM governance.private_utility WHERE target = %(target)s) "
            "ORDER BY id",
            {"target": target},
        ).fetchall()

"""Lineage: one record an arrow, from what was read to what was written, in the publishing transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


@dataclass(frozen=True)
class LineageRecord:
    """What was made from what.

    Attributes:
        source: File pattern, topic or table read.
        target: Table written.
        transformation: What was done, in words or as the fingerprint of the policy.
        records_in: Records read.
        records_out: Records written.
        run_id: The run that did it.
        status: How it ended.
        column_lineage: For each column of the target, where it came from and by what technique.
    """

    source: str
    target: str
    transformation: str
    records_in: int
    records_out: int
    run_id: str
    status: str = "succeeded"
    column_lineage: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredLineage(LineageRecord):
    """A record as the table holds it."""

    lineage_id: int
    recorded_at: datetime


def record(connection: psycopg.Connection, lineage: LineageRecord) -> None:
    """Write `lineage` in the caller's transaction."""
    connection.execute(
        "INSERT INTO governance.data_lineage "
        "(source, target, transformation, records_in, records_out, run_id, status, column_lineage) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            lineage.source,
            lineage.target,
            lineage.transformation,
            lineage.records_in,
            lineage.records_out,
            lineage.run_id,
            lineage.status,
            Jsonb(dict(lineage.column_lineage)),
        ],
    )


def entries(
    connection: psycopg.Connection,
    *,
    target: str | None = None,
    source: str | None = None,
    run_id: str | None = None,
    limit: int = 100,
) -> Sequence[StoredLineage]:
    """The latest records, latest first: at most `limit`, and only those asked for."""
    with connection.cursor(row_factory=class_row(StoredLineage)) as cursor:
        return cursor.execute(
            """
            SELECT lineage_id, recorded_at, source, target, transformation, records_in, records_out, run_id,
                   status, column_lineage
            FROM governance.data_lineage
            WHERE (%(target)s::text IS NULL OR target = %(target)s)
              AND (%(source)s::text IS NULL OR source = %(source)s)
              AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
            ORDER BY lineage_id DESC LIMIT %(limit)s
            """,
            {"target": target, "source": source, "run_id": run_id, "limit": limit},
        ).fetchall()

"""The register of anonymous releases: what each was made to satisfy, at which levels, at what loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


@dataclass(frozen=True, kw_only=True)
class AnonymityRecord:
    """One release of a table with a privacy model.

    Attributes:
        run_id: The run that released it.
        target: The table, `schema.name`.
        recoding: `global`, `local`, or `fixed` when the policy left no level open.
        requirements: What the policy demands.
        levels: Quasi-identifier → its level; under local recoding → level → share of the records.
        loss: Mean normalized certainty penalty, 0 to 1; suppressed cells count 1.
        column_losses: Quasi-identifier → the same for it alone.
        records: Records considered.
        suppressed: Records left out.
        classes: Equivalence classes published.
        measured: k, l and t as recomputed on the staged rows.
        exposed_by_intersection: People whom this release and the one before together place in a group smaller than
            k; None when there is no release before it.
    """

    run_id: str
    target: str
    recoding: str
    requirements: Mapping[str, object]
    levels: Mapping[str, object]
    loss: float
    column_losses: Mapping[str, float]
    records: int
    suppressed: int
    classes: int
    measured: Mapping[str, float]
    exposed_by_intersection: int | None = None


@dataclass(frozen=True, kw_only=True)
class StoredAnonymity(AnonymityRecord):
    """A record as the table holds it."""

    id: int
    released_at: datetime


def record(connection: psycopg.Connection, release: AnonymityRecord) -> None:
    """Write a record in the caller's transaction."""
    connection.execute(
        "INSERT INTO governance.anonymity_releases (run_id, target, recoding, requirements, levels, loss, "
        "column_losses, records, suppressed, classes, measured, exposed_by_intersection) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            release.run_id,
            release.target,
            release.recoding,
            Jsonb(dict(release.requirements)),
            Jsonb(dict(release.levels)),
            release.loss,
            Jsonb(dict(release.column_losses)),
            release.records,
            release.suppressed,
            release.classes,
            Jsonb(dict(release.measured)),
            release.exposed_by_intersection,
        ],
    )


def releases(connection: psycopg.Connection, target: str, *, limit: int = 1) -> list[StoredAnonymity]:
    """The latest releases of a table, latest first."""
    with connection.cursor(row_factory=class_row(StoredAnonymity)) as cursor:
        return cursor.execute(
            "SELECT id, released_at, run_id, target, recoding, requirements, levels, loss, column_losses, records, "
            "suppressed, classes, measured, exposed_by_intersection FROM governance.anonymity_releases "
            "WHERE target = %s ORDER BY id DESC LIMIT %s",
            [target, limit],
        ).fetchall()

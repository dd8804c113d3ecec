"""Write, audit, publish: a release is staged under a name of its own, checked, and swapped in within one transaction.

A staging table is built like its target, partition for partition. Tasks copy into it exactly once (`copy_once`), the
driver completes and checks it, and `swap` puts its partitions in the place of the standing ones. A run that dies
leaves only staging tables, which the next run of the same table (or their `owner`) drops: a lock on the table's name
makes sure that no two runs work on it at once.
"""

import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from psycopg import Connection, errors, sql

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.tables import Column, Partition, Table, Zone
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.tables import (
    attach,
    columns_sql,
    drop,
    ensure_table,
    index_columns,
    must_be_remade,
    partition_by_sql,
    partition_name,
    partitions,
)
from privacy_platform.warehouse.views import drop_views

STAGING = "staging"
# How long a run waits for another of the same table: enough for the session of a killed run to be noticed as dead.
BUSY_SECONDS = 5.0


class ReleaseBusyError(PrivacyPlatformError):
    """Another run is releasing the same table."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release of a table in the making.

    `id` is random and names the staging tables, so that a straggling task of a dead run can never write into the
    tables of its successor. `hidden` columns are staged for the checks and dropped before the swap. `copied` is a
    release whose rows are copied from staging and not swapped in: staging itself need not survive the server then.
    `owner` is what the staging tables belong to where that is not the table: then no run of the table drops them, and
    the owner must.
    """

    table: Table
    partitions: tuple[Partition, ...]
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    hidden: tuple[Column, ...] = ()
    copied: bool = False
    owner: str | None = None

    @property
    def mark(self) -> str:
        """The comment of the staging tables, by which `drop_staging` knows them."""
        return self.owner or self.table.qualified

    @property
    def staged_table(self) -> Table:
        """The table as it is staged: with the hidden columns, which only the checks see."""
        return replace(self.table, columns=(*self.table.columns, *self.hidden))

    @property
    def staging(self) -> str:
        """The staging parent's name, in schema `staging`."""
        return f"{self.table.name}_{self.id}"

    @property
    def quarantine(self) -> str:
        """The staging table of quarantined rows."""
        return f"{self.table.name}_{self.id}_q"

    @property
    def secret(self) -> str:
        """The table that holds the release's salt until the release is done."""
        return f"{self.table.name}_{self.id}_s"

    @property
    def digests(self) -> str:
        """The staging table of the keys' digests, of a release whose keys may repeat."""
        return f"{self.table.name}_{self.id}_k"

    def key_index(self, partition: Partition) -> str:
        """The name of the index of a staging partition's key."""
        return f"pk_{self.id}_{partition.suffix}"

    def partition(self, partition: Partition) -> str:
        """A staging partition's name."""
        return f"{self.table.name}_{partition.suffix}_{self.id}"


@contextmanager
def exclusive(table: Table) -> Iterator[None]:
    """Hold the right to release `table` for the block, or until the process dies.

    Should the lock's session be lost before its run, the next run drops what this one has staged.

    Raises:
        ReleaseBusyError: another run holds it.
    """
    busy = f"{table.qualified} is being materialized by another run: wait for it to end."
    with holding(f"release {table.qualified}", busy):
        yield


@contextmanager
def holding(name: str, busy: str, *, wait: float = BUSY_SECONDS) -> Iterator[None]:
    """Hold a lock for the block, or until the process dies.

    The lock is a row that a session of its own inserts and never commits: whoever inserts the same waits. Unlike an
    advisory lock, which any login could take and keep, it can be had only by those who may write in staging. It goes
    with its session.

    Args:
        name: the lock.
        busy: what to say when somebody else holds it.
        wait: for how many seconds to wait for it.

    Raises:
        ReleaseBusyError: another process holds it.
    """
    with closing(connect(Role.PIPELINE, lock_timeout=wait)) as holder:
        holder.execute("SET idle_in_transaction_session_timeout = 0")
        try:
            holder.execute("INSERT INTO staging.commits (stage, split) VALUES (%s, 0)", [name])
        except errors.LockNotAvailable:
            raise ReleaseBusyError(busy) from None
        yield


def open_staging(connection: Connection, release: Release) -> None:
    """Create the staging tables of a release, after dropping those a dead run of the same table has left."""
    if release.owner is None:
        drop_staging(connection, release.mark)
    table = release.staged_table
    parent = sql.Identifier(STAGING, release.staging)
    connection.execute(sql.SQL("CREATE TABLE {} ({}) {}").format(parent, columns_sql(table), partition_by_sql(table)))
    for partition in release.partitions:
        child = sql.Identifier(STAGING, release.partition(partition))
        connection.execute(
            # A release is analyzed with its indexes. Vacuumed meanwhile it would be read again, and the swap might wait
            # for that to be given up.
            sql.SQL("CREATE {} TABLE {} PARTITION OF {} {} {} WITH (autovacuum_enabled = false)").format(
                sql.SQL("UNLOGGED" if release.copied else ""),
                child,
                parent,
                _day_check(table, partition),
                sql.SQL(partition.bounds),
            )
        )
    connection.execute(
        sql.SQL("CREATE TABLE {} (LIKE raw.quarantine INCLUDING DEFAULTS)").format(
            sql.Identifier(STAGING, release.quarantine)
        )
    )
    # Not logged: the salt must not survive in the write-ahead log after the release has thrown it away.
    connection.execute(
        # And drawn by the server (twice 122 random bits), for a statement can be logged there.
        sql.SQL(
            "CREATE UNLOGGED TABLE {} AS "
            "SELECT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '') AS salt"
        ).format(sql.Identifier(STAGING, release.secret))
    )
    for name in (release.staging, release.quarantine, release.secret):
        connection.execute(
            sql.SQL("COMMENT ON TABLE {} IS {}").format(sql.Identifier(STAGING, name), sql.Literal(release.mark))
        )
    connection.commit()


def _day_check(table: Table, partition: Partition) -> sql.Composable:
    """What lets ATTACH believe a day's bounds without scanning the partition while it holds its lock."""
    if partition.day is None:
        return sql.SQL("")
    start, end = partition.range
    return sql.SQL("(CONSTRAINT day CHECK ({c} IS NOT NULL AND {c} >= {} AND {c} < {}))").format(
        start, end, c=sql.Identifier(table.partition_column or "")
    )


def drop_staging(connection: Connection, mark: str, *, only: Release | None = None) -> None:
    """Drop staging tables, and the record of what was copied into tables that are gone.

    Args:
        connection: as the pipeline role.
        mark: whose: a table (`Table.qualified`), which the caller holds the right to release, or another owner.
        only: of one release.
    """
    names = [
        name
        for (name,) in connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'staging' AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
            "AND obj_description(c.oid, 'pg_class') = %s AND starts_with(c.relname, %s)",
            [mark, only.staging if only else ""],
        )
    ]
    for name in names:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(STAGING, name)))
    connection.execute("DELETE FROM staging.commits WHERE to_regclass(format('staging.%I', stage)) IS NULL")
    connection.commit()


def rows_read(connection: Connection) -> dict[str, int]:
    """Table → rows that the committed splits of its running release have read: how far a run is."""
    found = connection.execute(
        "SELECT regexp_replace(stage, '_[0-9a-f]{8}$', ''), sum((statistics ->> 'read')::bigint)::bigint "
        "FROM staging.commits WHERE statistics ? 'read' GROUP BY 1"
    ).fetchall()
    return {str(table): int(rows) for table, rows in found}


def staged_partitions(connection: Connection, release: Release) -> list[Partition]:
    """The staged partitions that hold rows; empty ones of a day-partitioned table are dropped."""
    if release.table.partition_column is None:
        return list(release.partitions)
    filled = []
    for partition in release.partitions:
        name = sql.Identifier(STAGING, release.partition(partition))
        if connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(name)).fetchone():
            filled.append(partition)
        else:
            connection.execute(sql.SQL("DROP TABLE {}").format(name))
    connection.commit()
    return filled


@contextmanager
def indexing(release: Release, filled: Sequence[Partition]) -> Iterator[None]:
    """Build the indexes of the staged partitions beside the block, which may read them: checks on another core.

    Raises:
        psycopg.errors.UniqueViolation: at the end of the block; a key occurs twice.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="indexing") as pool:
        done = pool.submit(_index, release, filled)
        yield
        done.result()


def _index(release: Release, filled: Sequence[Partition]) -> None:
    table = release.table
    # The commit that publishes waits for the disk, and with it for all that was before it.
    with connect(Role.PIPELINE, autocommit=True, wait_for_disk=False) as connection:
        key, further = index_columns(connection, table)
        for partition in filled:
            name = sql.Identifier(STAGING, release.partition(partition))
            if partition.day is not None or table.zone is Zone.RAW:
                # One of many, or mostly read whole: a small sample costs a seventh of the usual one.
                connection.execute("SET default_statistics_target = 10")
            # An index and not the constraint, whose lock would shut out the checks; `swap` makes the key of it.
            connection.execute(
                sql.SQL("CREATE UNIQUE INDEX {} ON {} ({})").format(
                    sql.Identifier(release.key_index(partition)), name, sql.SQL(", ").join(map(sql.Identifier, key))
                )
            )
            for index in further:
                connection.execute(
                    sql.SQL("CREATE INDEX ON {} ({})").format(name, sql.SQL(", ").join(map(sql.Identifier, index)))
                )
            connection.execute(sql.SQL("ANALYZE {}").format(name))


def drop_indexes(connection: Connection, release: Release, filled: Sequence[Partition]) -> None:
    """Drop the keys' indexes that were built before one of them met a key twice."""
    for partition in filled:
        name = sql.Identifier(STAGING, release.key_index(partition))
        connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(name))
    connection.commit()


def drop_hidden(connection: Connection, release: Release) -> None:
    """Drop what only the checks were to see."""
    for column in release.hidden:
        connection.execute(
            sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(
                sql.Identifier(STAGING, release.staging), sql.Identifier(column.name)
            )
        )


def swap(
    connection: Connection,
    release: Release,
    filled: Sequence[Partition],
    *,
    emptied: Sequence[Partition] = (),
) -> None:
    """Put the staged partitions in the place of the standing ones; the caller commits.

    Args:
        connection: inside the publish transaction.
        release: the staged release, complete, indexed and checked.
        filled: the partitions to put in.
        emptied: standing partitions that must go and have no successor.
    """
    table = release.table
    drop_hidden(connection, release)
    if must_be_remade(connection, table, replacing=[*filled, *emptied]):
        drop_views(connection, table)
        drop(connection, "TABLE", table.zone, table.name)
    ensure_table(connection, table)
    standing = set(partitions(connection, table))
    parent = sql.Identifier(table.zone, table.name)
    for partition in sorted({*filled, *emptied} & standing):
        old = sql.Identifier(table.zone, partition_name(table, partition))
        connection.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(parent, old))
        connection.execute(sql.SQL("DROP TABLE {}").format(old))
    for partition in filled:
        staged, final = release.partition(partition), partition_name(table, partition)
        staging = sql.Identifier(STAGING, staged)
        connection.execute(
            sql.SQL("ALTER TABLE {} ADD PRIMARY KEY USING INDEX {}").format(
                staging, sql.Identifier(release.key_index(partition))
            )
        )
        connection.execute(
            sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(sql.Identifier(STAGING, release.staging), staging)
        )
        connection.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(staging, sql.Identifier(table.zone)))
        connection.execute(
            sql.SQL("ALTER TABLE {} RENAME TO {}").format(sql.Identifier(table.zone, staged), sql.Identifier(final))
        )
        attach(connection, table, partition)
        ending = "RESET (autovacuum_enabled)" + ("" if partition.day is None else ", DROP CONSTRAINT day")
        connection.execute(sql.SQL("ALTER TABLE {} {}").format(sql.Identifier(table.zone, final), sql.SQL(ending)))

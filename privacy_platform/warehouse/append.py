"""Adding to a table that stands: what streams in is staged and checked as any release, and then inserted.

A release of files replaces whole partitions, which costs as much as what stands in them. A batch of a stream is small
beside that, so its rows are added to their partitions instead; readers see all of them or none.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from psycopg import Connection, sql

from privacy_platform.policy.tables import WHOLE, Partition, Table
from privacy_platform.warehouse.release import STAGING, Release
from privacy_platform.warehouse.tables import (
    TableMismatchError,
    attach,
    ensure_table,
    expected_shape,
    partition_name,
    partitions,
    standing_shape,
)

# Of a batch of 500,000 events, the raw rows.
_SORT_MEMORY = "384MB"


def appending(table: Table, *, owner: str | None = None) -> Release:
    """A release whose rows will be added to `table`: staged in one piece, whatever days they are of."""
    return Release(replace(table, partition_column=None), (WHOLE,), copied=True, owner=owner)


def require_appendable(connection: Connection, table: Table) -> None:
    """See that a standing table has the columns of its policy, so that rows can be added to it.

    Raises:
        TableMismatchError: it has others.
    """
    standing = standing_shape(connection, table)
    if standing is not None and standing != expected_shape(table):
        raise TableMismatchError(
            f"{table.qualified} was made under another policy: materialize all of it, then read the topic again."
        )


def analyze(connection: Connection, release: Release) -> None:
    """Tell the planner how small the staged rows are beside the tables that they are joined with."""
    # How many there are is what matters: a small sample costs a tenth of the usual one.
    connection.execute("SET LOCAL default_statistics_target = 10")
    connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(STAGING, release.partition(WHOLE))))
    connection.commit()


def append(connection: Connection, release: Release, table: Table) -> tuple[int, list[Partition]]:
    """Insert the staged rows into `table`, which is made where it does not stand; the caller commits.

    Returns:
        The number of rows and the partitions they went to.
    """
    staged = sql.Identifier(STAGING, release.partition(WHOLE))
    touched = _touched(connection, staged, table)
    if standing_shape(connection, table) is None:
        ensure_table(connection, table)
    for partition in sorted(set(touched) - set(partitions(connection, table))):
        _add_partition(connection, table, partition)
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    connection.execute(sql.SQL("SET LOCAL work_mem = {}").format(_SORT_MEMORY))
    rows = connection.execute(
        sql.SQL("INSERT INTO {} ({c}) SELECT {c} FROM {}{}").format(
            sql.Identifier(table.zone, table.name), staged, _in_order(table), c=columns
        )
    ).rowcount
    connection.execute("RESET work_mem")  # which others in this transaction need not have
    return rows, touched


def _in_order(table: Table) -> sql.Composable:
    """The order of the key where that is the only index, which then need not be in memory."""
    # Random keys meet each page of an index once a row, keys in order once: of 8 million standing rows, a raw record
    # costs half as much. With a second index, in whose order the rows are not, nothing was gained.
    key = sql.SQL(", ").join(map(sql.Identifier, table.primary_key))
    return sql.SQL("") if table.indexes else sql.SQL(" ORDER BY {}").format(key)


def _touched(connection: Connection, staged: sql.Identifier, table: Table) -> list[Partition]:
    if table.partition_column is None:
        return [WHOLE]
    days: Sequence[tuple[date]] = connection.execute(
        sql.SQL("SELECT DISTINCT ({} AT TIME ZONE 'UTC')::date FROM {} ORDER BY 1").format(
            sql.Identifier(table.partition_column), staged
        )
    ).fetchall()
    return [Partition(day) for (day,) in days]


def _add_partition(connection: Connection, table: Table, partition: Partition) -> None:
    """Attached and not made as a partition: that would keep all readers from the table until the commit."""
    parent = sql.Identifier(table.zone, table.name)
    child = sql.Identifier(table.zone, partition_name(table, partition))
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS)").format(child, parent))
    attach(connection, table, partition)

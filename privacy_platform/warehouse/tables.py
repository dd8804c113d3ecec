"""Zone tables in PostgreSQL: partitioned parents that hold views, grants and comments, whatever is released into them.

A table partitioned by day has a partition for each UTC day; every other table is hash-partitioned with one partition,
so that a release always replaces partitions of a parent that stays.
"""

from collections.abc import Sequence

from psycopg import Connection, sql

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.tables import Column, Partition, Table


class TableMismatchError(PrivacyPlatformError):
    """The table in the database has other columns than the policy, and a part of it would keep them."""


def columns_sql(table: Table) -> sql.Composed:
    """The column definitions of a CREATE TABLE."""
    return sql.SQL(", ").join(
        sql.SQL("{} {}{}").format(
            sql.Identifier(column.name),
            sql.SQL(column.type.value),
            sql.SQL("" if column.nullable and column.name not in table.primary_key else " NOT NULL"),
        )
        for column in table.columns
    )


def partition_by_sql(table: Table) -> sql.Composed:
    """The PARTITION BY clause."""
    if table.partition_column:
        return sql.SQL("PARTITION BY RANGE ({})").format(sql.Identifier(table.partition_column))
    return sql.SQL("PARTITION BY HASH ({})").format(sql.Identifier(table.primary_key[0]))


def partition_name(table: Table, partition: Partition) -> str:
    """The name of a released partition."""
    return f"{table.name}_{partition.suffix}"


def ensure_table(connection: Connection, table: Table, *, replacing: Sequence[Partition] | None = None) -> None:
    """Create the parent, or make it anew when the policy's columns are others; comments always follow the policy.

    Args:
        connection: as the pipeline role, inside the transaction that publishes.
        table: what the table must be.
        replacing: the partitions about to be released; None when nothing is about to be released, and then a table
            with other columns is left as it is.

    Raises:
        TableMismatchError: partitions that are not replaced would keep the old columns.
    """
    standing = table_columns(connection, table.zone, table.name)
    expected = [(column.name, column.type.value) for column in table.columns]
    if standing and standing != expected:
        if replacing is None:
            return
        left = set(partitions(connection, table)) - set(replacing)
        if left:
            raise TableMismatchError(
                f"{table.qualified} has other columns than its policy. Materialize all its partitions in one run "
                f"({len(left)} would keep the old columns, the first being {min(left).suffix})."
            )
        connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(table.zone, table.name)))
        standing = []
    if not standing:
        connection.execute(
            sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({})) {}").format(
                sql.Identifier(table.zone, table.name),
                columns_sql(table),
                sql.SQL(", ").join(map(sql.Identifier, table.primary_key)),
                partition_by_sql(table),
            )
        )
        for index in table.indexes:
            connection.execute(
                sql.SQL("CREATE INDEX ON {} ({})").format(
                    sql.Identifier(table.zone, table.name), sql.SQL(", ").join(map(sql.Identifier, index))
                )
            )
    _comment(connection, table)


def _comment(connection: Connection, table: Table) -> None:
    name = sql.Identifier(table.zone, table.name)
    wanted = {None: table.comment} | {column.name: comment_of(column) for column in table.columns}
    standing = {
        column: comment
        for column, comment in connection.execute(
            "SELECT a.attname, d.description FROM pg_description d LEFT JOIN pg_attribute a "
            "ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0 "
            "WHERE d.classoid = 'pg_class'::regclass AND d.objoid = to_regclass(%s)",
            [table.qualified],
        )
    }
    for column, comment in wanted.items():
        if standing.get(column) == comment:
            continue
        target = (
            sql.SQL("TABLE {}").format(name)
            if column is None
            else sql.SQL("COLUMN {}").format(sql.Identifier(table.zone, table.name, column))
        )
        connection.execute(sql.SQL("COMMENT ON {} IS {}").format(target, sql.Literal(comment)))


def comment_of(column: Column) -> str:
    """A column's comment in the database; personal columns say so."""
    mark = "" if column.pii == "none" else f" [PII: {column.pii}, sensitivity {column.sensitivity}]"
    return f"{column.comment}{mark}"


def table_columns(connection: Connection, schema: str, name: str) -> list[tuple[str, str]]:
    """(column, type) of a table in order; empty when there is no such table."""
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [f'"{schema}"."{name}"'],
    ).fetchall()
    short = {"timestamp with time zone": "timestamptz"}
    return [(str(column), short.get(kind, str(kind))) for column, kind in rows]


def partitions(connection: Connection, table: Table) -> list[Partition]:
    """The partitions that stand, in order."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(%s)",
        [table.qualified],
    ).fetchall()
    return sorted(Partition.parse(name.removeprefix(f"{table.name}_")) for (name,) in rows)


def count_rows(connection: Connection, schema: str, name: str) -> int:
    """The exact number of rows; 0 when there is no such table."""
    if connection.execute("SELECT to_regclass(%s)", [f'"{schema}"."{name}"']).fetchone() == (None,):
        return 0
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))).fetchone()
    return int(row[0]) if row else 0

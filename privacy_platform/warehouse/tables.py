"""Zone tables in PostgreSQL: partitioned parents that hold views, grants and comments, whatever is released into them.

A table partitioned by day has a partition for each UTC day; every other table has one partition for all values of its
key, so that a release always replaces partitions of a parent that stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from psycopg import Connection, errors, sql

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.tables import Column, Partition, Table, Zone

ANALYSTS, LINKAGE = "privacy_analyst", "privacy_linkage"


class TableMismatchError(PrivacyPlatformError):
    """The table in the database is not the policy's, and cannot be made so by this release."""


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
    # By range also where there is one partition: that rows belong to it follows from their key's not being null. To
    # know that they belong to the one partition of a hash, ATTACH would read them all, while readers wait.
    column = table.partition_column or table.primary_key[0]
    return sql.SQL("PARTITION BY RANGE ({})").format(sql.Identifier(column))


def partition_name(table: Table, partition: Partition) -> str:
    """The name of a released partition."""
    return f"{table.name}_{partition.suffix}"


@dataclass(frozen=True)
class Shape:
    """What of a table cannot be changed without making it anew.

    `columns` are (name, type, not null); `key` has the columns of the primary key in whatever order.
    """

    columns: tuple[tuple[str, str, bool], ...]
    key: frozenset[str]
    partitioned_by: str

    def same_rows(self, other: "Shape") -> bool:
        """Whether rows of one fit the other as they are: the same columns in whatever order, key and partitions."""
        return replace(self, columns=tuple(sorted(self.columns))) == replace(
            other, columns=tuple(sorted(other.columns))
        )


def expected_shape(table: Table) -> Shape:
    """The shape that the policy gives a table."""
    columns = ((c.name, c.type.value, not c.nullable or c.name in table.primary_key) for c in table.columns)
    return Shape(tuple(columns), frozenset(table.primary_key), table.partition_column or table.primary_key[0])


def standing_shape(connection: Connection, table: Table) -> Shape | None:
    """The shape of the table that stands; None when there is none."""
    columns = table_columns(connection, table.zone, table.name)
    if not columns:
        return None
    row = connection.execute(
        """
        SELECT array(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnotnull AND attnum > 0),
               coalesce((SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
                         AND a.attnum = p.partattrs[0] AND p.partstrat IN ('r', 'h')), '')
        FROM pg_class c LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid WHERE c.oid = to_regclass(%s)
        """,
        [table.qualified],
    ).fetchone()
    assert row is not None  # noqa: S101 - it has columns, so it is there
    filled, partitioned_by = row
    key = frozenset(_standing_key(connection, table))
    return Shape(tuple((name, kind, name in filled) for name, kind in columns), key, partitioned_by)


def index_columns(connection: Connection, table: Table) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The columns of the primary key, in order, and of each further index that a partition of a table must have.

    They are those of the table that stands: another key could not be attached, and an index that is missing would be
    made by ATTACH, while readers wait. Published tables of earlier warehouses have another order in their key and one
    index more, and keep them until they are made anew.
    """
    if standing_shape(connection, table) != expected_shape(table):
        return table.primary_key, list(table.indexes)
    further = [columns for primary, columns in _standing_indexes(connection, table) if not primary]
    return _standing_key(connection, table), list(dict.fromkeys([*table.indexes, *further]))


def _standing_key(connection: Connection, table: Table) -> tuple[str, ...]:
    return next((columns for primary, columns in _standing_indexes(connection, table) if primary), ())


def _standing_indexes(connection: Connection, table: Table) -> list[tuple[bool, tuple[str, ...]]]:
    """Of the indexes that the platform could have made: whether it is the primary key's, and its columns in order."""
    rows = connection.execute(
        "SELECT i.indisprimary, array_agg(a.attname::text ORDER BY k.n) FROM pg_index i "
        "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam, "
        "unnest(i.indkey) WITH ORDINALITY AS k(attnum, n), pg_attribute a "
        "WHERE i.indrelid = to_regclass(%s) AND (i.indisprimary OR NOT i.indisunique) AND m.amname = 'btree' "
        "AND i.indexprs IS NULL AND i.indpred IS NULL AND a.attrelid = i.indrelid AND a.attnum = k.attnum "
        "GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indexrelid",
        [table.qualified],
    ).fetchall()
    return [(bool(primary), tuple(columns)) for primary, columns in rows]


def must_be_remade(connection: Connection, table: Table, *, replacing: Sequence[Partition]) -> bool:
    """Whether a table stands whose columns, key or partitions are others than its policy's.

    Args:
        connection: as the pipeline role, inside the transaction that publishes.
        table: what the table must be.
        replacing: the partitions about to be released.

    Raises:
        TableMismatchError: partitions that are not replaced would keep the old columns.
    """
    standing = standing_shape(connection, table)
    if standing is None or standing == expected_shape(table):
        return False
    left = set(partitions(connection, table)) - set(replacing)
    if left:
        raise TableMismatchError(
            f"{table.qualified} has other columns than its policy, or another key. Materialize all its partitions in "
            f"one run ({len(left)} would keep the old columns, the first being {min(left).suffix})."
        )
    return True


def drop(connection: Connection, kind: Literal["TABLE", "VIEW"], schema: str, name: str) -> None:
    """Drop what is made anew, if it is there, but nothing of others that depends on it.

    Raises:
        TableMismatchError: something does.
    """
    try:
        connection.execute(sql.SQL("DROP {} IF EXISTS {}").format(sql.SQL(kind), sql.Identifier(schema, name)))
    except errors.DependentObjectsStillExist as error:
        what = "; ".join((error.diag.message_detail or "").splitlines()[:5])
        raise TableMismatchError(
            f"{schema}.{name} has to be made anew for a changed policy, and other objects depend on it ({what}). "
            "Drop those, materialize the table, and make them again."
        ) from None


def ensure_table(connection: Connection, table: Table) -> None:
    """Create the parent when there is none; comments always follow the policy. In the caller's transaction."""
    standing = table_columns(connection, table.zone, table.name)
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
    _grant(connection, table)


def _grant(connection: Connection, table: Table) -> None:
    """Who reads what of a table of the anonymized zone; for the other zones the schema's default privileges say it."""
    if table.zone is not Zone.ANONYMIZED:
        return
    name = sql.Identifier(table.zone, table.name)
    analyst, linkage = sql.Identifier(ANALYSTS), sql.Identifier(LINKAGE)
    shown = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns if not column.restricted)
    connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}, {}").format(name, analyst, linkage))
    connection.execute(sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(shown, name, analyst))
    connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(name, linkage))


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
    return f"{column.comment}{mark}{' [for linkage only]' if column.restricted else ''}"


def table_columns(connection: Connection, schema: str, name: str) -> list[tuple[str, str]]:
    """(column, type) of a table in order; empty when there is no such table."""
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [f'"{schema}"."{name}"'],
    ).fetchall()
    short = {"timestamp with time zone": "timestamptz"}
    return [(str(column), short.get(kind, str(kind))) for column, kind in rows]


def attach(connection: Connection, table: Table, partition: Partition) -> None:
    """Make the table of a partition's name one of `table`, in the caller's transaction."""
    # Earlier warehouses have one partition by hash, of the same rows, and keep it.
    row = connection.execute(
        "SELECT partstrat = 'h' FROM pg_partitioned_table WHERE partrelid = to_regclass(%s)", [table.qualified]
    ).fetchone()
    bounds = "FOR VALUES WITH (MODULUS 1, REMAINDER 0)" if row == (True,) else partition.bounds
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} {}").format(
            sql.Identifier(table.zone, table.name),
            sql.Identifier(table.zone, partition_name(table, partition)),
            sql.SQL(bounds),
        )
    )


def partitions(connection: Connection, table: Table) -> list[Partition]:
    """The partitions that stand, in order."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(%s)",
        [table.qualified],
    ).fetchall()
    return sorted(Partition.parse(name.removeprefix(f"{table.name}_")) for (name,) in rows)


def relation_bytes(connection: Connection, schema: str, names: Sequence[str]) -> list[int]:
    """The bytes of each relation's rows, 0 of one that is not there."""
    rows = connection.execute(
        "SELECT coalesce(pg_relation_size(to_regclass(format('%%I.%%I', %s::text, name))), 0) "
        "FROM unnest(%s::text[]) WITH ORDINALITY AS n(name, place) ORDER BY place",
        [schema, list(names)],
    ).fetchall()
    return [int(size) for (size,) in rows]


def count_rows(connection: Connection, schema: str, name: str) -> int:
    """The exact number of rows; 0 when there is no such table."""
    return count_lacking(connection, schema, name, ())[0]


def count_lacking(connection: Connection, schema: str, name: str, columns: Sequence[str]) -> tuple[int, int]:
    """The exact number of rows, and of those that lack one of some columns; 0 when there is no such table."""
    if connection.execute("SELECT to_regclass(%s)", [f'"{schema}"."{name}"']).fetchone() == (None,):
        return 0, 0
    lacking: sql.Composable = sql.SQL("0")
    if columns:
        missing = [sql.SQL("{} IS NULL").format(sql.Identifier(column)) for column in columns]
        lacking = sql.SQL("count(*) FILTER (WHERE {})").format(sql.SQL(" OR ").join(missing))
    query = sql.SQL("SELECT count(*), {} FROM {}").format(lacking, sql.Identifier(schema, name))
    row = connection.execute(query).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)

"""A table of the warehouse as a relation for risk: what one login may read of it, counted by PostgreSQL.

All questions are answered in one read-only transaction, so that they see one state of the table. Only distinct
combinations of values and their counts leave the server.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import polars as pl
from psycopg import sql

from privacy_platform.anonymization.risk.relation import Kind, SourceColumn
from privacy_platform.errors import PrivacyPlatformError

if TYPE_CHECKING:
    from adbc_driver_postgresql import dbapi

__all__ = ["RelationError", "TableRelation", "open_relation"]

_KINDS = {
    **dict.fromkeys(("int2", "int4", "int8"), Kind.INTEGER),
    **dict.fromkeys(("float4", "float8", "numeric"), Kind.NUMBER),
    **dict.fromkeys(("date", "timestamp", "timestamptz"), Kind.TIME),
    "bool": Kind.BOOLEAN,
}
_FIND = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
  AND has_schema_privilege(n.oid, 'USAGE') AND c.relname = {name} AND ({schema} IS NULL OR n.nspname = {schema})
ORDER BY 1
"""
_COLUMNS = """
SELECT a.attname, t.typname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = {table}::regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
ORDER BY a.attnum
"""


class RelationError(PrivacyPlatformError):
    """There is no such table, or the role may read nothing of it."""


@dataclass(frozen=True)
class TableRelation:
    """A table or view as the login of the connection sees it; see `anonymization.risk.relation.Relation`."""

    connection: "dbapi.Connection"
    schema: str
    name: str
    columns: tuple[SourceColumn, ...]
    condition: sql.Composable = field(default_factory=lambda: sql.SQL("true"))

    @property
    def qualified(self) -> str:
        """`schema.name`."""
        return f"{self.schema}.{self.name}"

    def records(self) -> int:
        """Rows."""
        return int(self._frame(sql.SQL("SELECT count(*) AS n FROM {}").format(self._from())).item())

    def distinct(self, names: Sequence[str]) -> dict[str, int]:
        """Values of each column, one at a time, so that no more than one is held by the server."""
        return {
            name: int(
                self._frame(
                    sql.SQL(
                        "SELECT count(*) AS n FROM (SELECT {c} FROM {t} GROUP BY 1) v WHERE {i} IS NOT NULL"
                    ).format(
                        c=sql.SQL("{} AS v").format(self._comparable(name)), t=self._from(), i=sql.Identifier("v", "v")
                    )
                ).item()
            )
            for name in names
        }

    def grouped(self, names: Sequence[str], *, limit: int | None = None) -> pl.DataFrame | None:
        """Distinct combinations, as text where the values are neither numbers nor times."""
        query = sql.SQL(
            "SELECT {shown}, n AS records FROM (SELECT {keys}, count(*) AS n FROM {t} GROUP BY {p}) g{limit}"
        )
        found = self._frame(
            query.format(
                shown=sql.SQL(", ").join(self._shown(name, f"c{i}") for i, name in enumerate(names)),
                keys=sql.SQL(", ").join(
                    sql.SQL("{} AS {}").format(self._comparable(name), sql.Identifier(f"c{i}"))
                    for i, name in enumerate(names)
                ),
                t=self._from(),
                p=sql.SQL(", ").join(sql.SQL(str(i + 1)) for i in range(len(names))),
                limit=sql.SQL("" if limit is None else f" LIMIT {limit + 1}"),
            )
        )
        return None if limit is not None and found.height > limit else found

    def cells(self, names: Sequence[str], value: str) -> pl.DataFrame:
        """Values in classes; a class is known by a 64-bit hash of its values."""
        query = sql.SQL(
            'SELECT class, {shown}, n AS records FROM (SELECT {c} AS class, {v} AS "value", count(*) AS n FROM {t} '
            "GROUP BY 1, 2) g"
        )
        keys = sql.SQL(", ").join(self._comparable(name) for name in names)
        number = sql.SQL("hash_record_extended(ROW({}), 0)").format(keys) if names else sql.SQL("0::bigint")
        return self._frame(
            query.format(shown=self._shown(value, "value"), c=number, v=self._comparable(value), t=self._from())
        )

    def without(self, names: Sequence[str], mark: str) -> Self:
        """The same without suppressed rows."""
        marked = sql.SQL(" AND ").join(
            sql.SQL("{}::text IS NOT DISTINCT FROM {}").format(sql.Identifier(name), sql.Literal(mark))
            for name in names
        )
        return replace(self, condition=sql.SQL("{} AND NOT ({})").format(self.condition, marked))

    def _from(self) -> sql.Composed:
        return sql.SQL("{} WHERE {}").format(sql.Identifier(self.schema, self.name), self.condition)

    def _kind(self, name: str) -> Kind:
        return next(column.kind for column in self.columns if column.name == name)

    def _comparable(self, name: str) -> sql.Composable:
        """The column as something with equality: json, xml and the like only have it as text."""
        column = sql.Identifier(name)
        return sql.SQL("{}::text").format(column) if self._kind(name) is Kind.TEXT else column

    def _shown(self, name: str, alias: str) -> sql.Composed:
        """The grouped column as a type that arrives as such: numeric comes as opaque text otherwise."""
        cast = sql.SQL("::float8" if self._kind(name) is Kind.NUMBER else "")
        return sql.SQL("{a}{cast} AS {a}").format(a=sql.Identifier(alias), cast=cast)

    def _frame(self, query: sql.Composable) -> pl.DataFrame:
        return _frame(self.connection, query)


def open_relation(connection: "dbapi.Connection", table: str) -> TableRelation:
    """A table by its name, or by schema and name with a dot between.

    Args:
        connection: of the login whose view of the table is wanted; at the beginning of a transaction.
        table: a table or view that the login may read.

    Raises:
        RelationError: none or several tables have the name, or no column can be read.
    """
    _execute(connection, sql.SQL("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
    schema, _, name = table.rpartition(".")
    wanted = sql.SQL(_FIND).format(
        name=sql.Literal(name), schema=sql.SQL("{}::text").format(sql.Literal(schema or None))
    )
    found = _frame(connection, wanted).rows()
    if len(found) != 1:
        several = f"; say which of {', '.join('.'.join(row) for row in found)}" if found else ""
        raise RelationError(f"there is no one table `{table}` that this role may read{several}")
    [(schema, name)] = found
    qualified = sql.Identifier(schema, name).as_string(None)
    columns = _frame(connection, sql.SQL(_COLUMNS).format(table=sql.Literal(qualified))).rows()
    if not columns:
        raise RelationError(f"this role may read no column of {schema}.{name}; ask for another one with --role")
    return TableRelation(
        connection,
        schema,
        name,
        tuple(
            SourceColumn(column, _KINDS.get(type_name, Kind.TEXT))
            for column, type_name in columns
            if type_name != "bytea"
        ),
    )


def _execute(connection: "dbapi.Connection", query: sql.Composable) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query.as_string(None))


def _frame(connection: "dbapi.Connection", query: sql.Composable) -> pl.DataFrame:
    with connection.cursor() as cursor:
        cursor.execute(query.as_string(None))
        return pl.DataFrame(pl.from_arrow(cursor.fetch_arrow_table()))

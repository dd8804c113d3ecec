"""The widest tables that policies may have take their widest rows."""

import secrets
from bisect import bisect_left
from pathlib import Path

import pytest
from psycopg import sql

from privacy_platform.policy.compile import anonymized_table, raw_table
from privacy_platform.policy.tables import ColumnType, Table
from privacy_platform.policy.widths import width_problem
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.tables import columns_sql
from privacy_platform_tests.unit.policy.test_widths import wide

VALUES = {
    ColumnType.BIGINT: "9007199254740993",
    ColumnType.DOUBLE: "0.1",
    ColumnType.BOOLEAN: "true",
    ColumnType.TIMESTAMP: "2026-01-02 03:04:05+00",
    ColumnType.DATE: "2026-01-02",
}


@pytest.mark.parametrize("kind", ["count", "text", "hash", "range"])
@pytest.mark.parametrize("length", [5, 23, 24, 60])
def test_the_widest_row_fits(warehouse: Path, kind: str, length: int) -> None:
    most = bisect_left(range(1_100), True, key=lambda n: width_problem(wide(**{kind: n + 1})) is not None)
    for table in (raw_table(wide(**{kind: most})), anonymized_table(wide(**{kind: most}))):
        insert(table, length)


def insert(table: Table, length: int) -> None:
    """One row without a null, with texts of so many characters (23 is what PostgreSQL leaves in a row at the most)."""
    name = sql.Identifier(f"widest_{table.name}")
    values = [
        VALUES.get(
            c.type, secrets.token_bytes(length) if c.type is ColumnType.BYTES else secrets.token_hex(length)[:length]
        )
        for c in table.columns
    ]
    with connect(Role.ADMIN) as connection:
        connection.execute(sql.SQL("CREATE TEMP TABLE {} ({})").format(name, columns_sql(table)))
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES ({})").format(name, sql.SQL(",").join(map(sql.Literal, values)))
        )
        connection.rollback()

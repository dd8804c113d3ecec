"""Tables of PostgreSQL as samples: every column as text, whatever its name, and the whole of a database."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from privacy_platform.cli import app
from privacy_platform.detection.detector import detect
from privacy_platform.detection.types import PiiType
from privacy_platform.warehouse.connection import Role, WarehouseConnectionError, connect, database_url
from privacy_platform.warehouse.samples import database_tables, sample_table


@pytest.fixture
def crm(warehouse: Path) -> str:
    with connect(Role.ADMIN, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS crm CASCADE")
        connection.execute("CREATE SCHEMA crm")
        connection.execute('CREATE TABLE crm."Odd ""name" (id int, "E-Mail" text, joined date, photo bytea, gone text)')
        connection.execute(
            "INSERT INTO crm.\"Odd \"\"name\" SELECT n, 'a' || n || '@example.org', date '2024-01-01' + n, 'x', NULL "
            "FROM generate_series(1, 25000) AS n"
        )
    return 'Odd "name'


def test_a_table_is_sampled_as_text(crm: str) -> None:
    seen: list[tuple[str, int, int]] = []
    with connect(Role.ADMIN) as connection:
        table = sample_table(connection, "crm", crm, lambda *step: seen.append(step))

    assert [column.name for column in table.columns] == ["id", "E-Mail", "joined", "gone"]
    assert table.columns[0].rows == 25_000
    assert table.columns[1].certain == {"email": 25_000}
    assert not table.columns[3].values
    assert [step[0] for step in seen] == [f"crm.{crm}"] * 2
    assert {f.name: f.type for f in detect(table)}["E-Mail"] is PiiType.EMAIL


def test_the_tables_of_a_database(crm: str) -> None:
    with connect(Role.ADMIN) as connection:
        tables = database_tables(connection)

        assert ("crm", crm) in tables
        assert not any(schema.startswith("pg_") for schema, _ in tables)
        assert database_tables(connection, f"crm.{crm}") == [("crm", crm)]
        with pytest.raises(WarehouseConnectionError, match=r"no table `crm\.nobody`"):
            database_tables(connection, "crm.nobody")


def test_a_role_sees_only_what_it_may_read(crm: str) -> None:
    with connect(Role.ANALYST) as connection:
        assert ("crm", crm) not in database_tables(connection)


def test_the_command_scans_a_table_of_a_database_by_its_url(crm: str) -> None:
    result = CliRunner().invoke(app, ["scan", f"{database_url(Role.ADMIN)}#crm.{crm}", "--json"])

    types = {column["name"]: column["type"] for column in json.loads(result.output)["columns"]}
    assert types["E-Mail"] == "email"

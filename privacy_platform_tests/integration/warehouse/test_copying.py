"""COPY of frames: what is in the table afterwards is what was in the frame, whatever its types and values."""

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from privacy_platform.policy.tables import ColumnType
from privacy_platform.warehouse import copying
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.copying import CopyTypeError, copy_frame

VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    ColumnType.TEXT: st.text(st.characters(exclude_characters="\x00", codec="utf-8")),
    ColumnType.BIGINT: st.integers(-(2**63), 2**63 - 1),
    ColumnType.DOUBLE: st.floats(allow_nan=False),
    ColumnType.BOOLEAN: st.booleans(),
    ColumnType.TIMESTAMP: st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
    ColumnType.DATE: st.dates(date(1, 1, 1), date(9999, 12, 31)),
    ColumnType.BYTES: st.binary(),
}
NAMES = {kind: f"Column of {kind.value}" for kind in ColumnType}
SCHEMA = {NAMES[kind]: kind.polars for kind in ColumnType}
ROWS = st.lists(st.tuples(*(st.none() | VALUES[kind] for kind in ColumnType)), max_size=40)


@pytest.fixture
def target(warehouse: Path) -> Iterator[psycopg.Connection]:
    columns = sql.SQL(", ").join(sql.SQL(f"{{}} {kind.value}").format(sql.Identifier(NAMES[kind])) for kind in NAMES)
    with connect(Role.PIPELINE) as connection:
        connection.execute(sql.SQL("CREATE TABLE staging.copied (n bigserial, {})").format(columns))
        connection.commit()
        yield connection
        connection.rollback()
        connection.execute("DROP TABLE staging.copied")


def stored(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    names = sql.SQL(", ").join(map(sql.Identifier, SCHEMA))
    return connection.execute(sql.SQL("SELECT {} FROM staging.copied ORDER BY n").format(names)).fetchall()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_every_value_of_every_type_arrives(target: psycopg.Connection, rows: list[tuple[Any, ...]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "_ROWS", 3)
        copy_frame(target, "staging", "copied", frame.select(reversed(frame.columns)))
    found = stored(target)
    target.rollback()
    assert found == frame.rows()


def test_rows_come_in_the_order_of_the_frame_however_many(
    target: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_ROWS", 3)
    # In chunks, and beginning in the middle of one, as what is filtered and put together does.
    frame = pl.concat([pl.DataFrame({NAMES[ColumnType.TEXT]: ["a", None, "long enough for a buffer", ""] * 2})] * 3)
    frame = frame.with_row_index(NAMES[ColumnType.BIGINT]).with_columns(pl.first().cast(pl.Int64)).slice(2, 19)
    copy_frame(target, "staging", "copied", frame)
    copy_frame(target, "staging", "copied", frame.clear())
    names = [NAMES[ColumnType.BIGINT], NAMES[ColumnType.TEXT]]
    query = sql.SQL("SELECT {}, {} FROM staging.copied ORDER BY n").format(*map(sql.Identifier, names))
    found = target.execute(query).fetchall()
    target.rollback()
    assert found == frame.select(names).rows()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (NAMES[ColumnType.BIGINT], pl.Int32()),
        (NAMES[ColumnType.BIGINT], pl.Float64()),  # of the same width
        (NAMES[ColumnType.TIMESTAMP], pl.Int64()),
        (NAMES[ColumnType.TIMESTAMP], pl.Datetime("ms", "UTC")),
        (NAMES[ColumnType.TEXT], pl.Binary()),
        ("another", pl.String()),
    ],
)
def test_another_type_is_refused_before_a_byte_is_sent(
    target: psycopg.Connection, name: str, kind: pl.DataType
) -> None:
    with pytest.raises(CopyTypeError, match=name):
        copy_frame(target, "staging", "copied", pl.DataFrame({name: [None]}, schema={name: kind}))
    assert stored(target) == []
    target.rollback()


def test_what_the_server_refuses_leaves_nothing(target: psycopg.Connection) -> None:
    name = NAMES[ColumnType.TEXT]
    target.execute(
        sql.SQL("ALTER TABLE staging.copied ADD CONSTRAINT short CHECK (length({}) < 9)").format(sql.Identifier(name))
    )
    with pytest.raises(psycopg.Error):
        copy_frame(target, "staging", "copied", pl.DataFrame({name: ["short", "ada.lovelace@example.org"] * 5000}))
    target.rollback()
    assert stored(target) == []


def test_psycopg_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Where a COPY fails twice, it logs what the server said of the row, in its own words."""
    logging.getLogger("psycopg").warning("error ignored terminating: Failing row contains (ada)")
    assert caplog.text == ""

"""What a swap relies on: ATTACH, which makes readers wait, believes a staged partition's bounds without reading it."""

from datetime import date

import pytest
from psycopg import Connection

from privacy_platform.policy.tables import WHOLE, Column, ColumnType, Partition, Table, Zone
from privacy_platform.warehouse.connection import connect
from privacy_platform.warehouse.release import Release, drop_staging, indexing, open_staging, swap

pytestmark = pytest.mark.usefixtures("warehouse")


def swappable(name: str, partition_column: str | None) -> Table:
    columns = (Column("id", ColumnType.TEXT, "an id"), Column("at", ColumnType.TIMESTAMP, "a time"))
    return Table(Zone.RAW, name, columns, ("id",), "a table", partition_column)


def swapped(connection: Connection, release: Release) -> list[str]:
    """Swap the release; what the server says of the bounds."""
    said: list[str] = []
    connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    connection.execute("SET client_min_messages = debug1")
    swap(connection, release, release.partitions)
    return [message for message in said if message.startswith("partition constraint for table")]


@pytest.mark.parametrize(
    ("name", "column", "partition"),
    [("swap_whole", None, WHOLE), ("swap_days", "at", Partition(date(2026, 1, 1)))],
)
def test_attaching_reads_no_rows(name: str, column: str | None, partition: Partition) -> None:
    release = Release(swappable(name, column), (partition,))
    with connect() as connection:
        open_staging(connection, release)
        connection.execute(f"INSERT INTO staging.{release.staging} VALUES ('a', '2026-01-01 10:00:00+00')")
        connection.commit()
        with indexing(release, release.partitions):
            pass
        said = swapped(connection, release)
        assert connection.execute(f"SELECT count(*) FROM raw.{name}").fetchone() == (1,)
        connection.rollback()
        drop_staging(connection, release.mark)
    table = f"{name}_{partition.suffix}"
    assert said == [f'partition constraint for table "{table}" is implied by existing constraints']

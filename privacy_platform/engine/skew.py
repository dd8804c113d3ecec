"""Whether one value of a column has so many rows that the task which gets them all would end long after the others.

PostgreSQL knows: a release is analyzed before it is published. Only how frequent the most frequent value is leaves the
server, and not the value, which is a token. Statistics are of a sample; a wrong guess costs time and changes nothing.
"""

from collections.abc import Collection, Sequence

from psycopg import Connection

from privacy_platform.engine.session import parallelism
from privacy_platform.policy.tables import Partition, Table
from privacy_platform.warehouse.tables import partition_name

__all__ = ["parts_for"]


def parts_for(
    connection: Connection, table: Table, chosen: Sequence[Partition], columns: Collection[str], rows: int
) -> int | None:
    """In how many parts to deal out the rows of one value; None where no value has more than a processor's share.

    Args:
        connection: as the pipeline role.
        table: what is read.
        chosen: the partitions that are read.
        columns: the columns that rows are shuffled by.
        rows: how many rows are read.
    """
    share = rows / parallelism()
    return 4 * parallelism() if heaviest(connection, table, chosen, columns) > share else None


def heaviest(connection: Connection, table: Table, chosen: Sequence[Partition], columns: Collection[str]) -> int:
    """About how many rows the most frequent value of one of the columns has, were it the same in all partitions."""
    row = connection.execute(
        "SELECT max(rows) FROM (SELECT sum(s.most_common_freqs[1] * greatest(c.reltuples, 0)) AS rows "
        "FROM pg_stats s JOIN pg_class c ON c.oid = to_regclass(format('%%I.%%I', s.schemaname, s.tablename)) "
        "WHERE s.schemaname = %s AND s.tablename = ANY(%s) AND s.attname = ANY(%s) GROUP BY s.attname) AS of_columns",
        [table.zone.value, [partition_name(table, partition) for partition in chosen], list(columns)],
    ).fetchone()
    return int(row[0]) if row and row[0] is not None else 0

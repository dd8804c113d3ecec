"""How large a share of a table's rows one value of a column has, by PostgreSQL's statistics.

Every release is analyzed before it is published, so they are there. Only the share leaves the server, never the value,
which can be a token. They are made of a sample: whoever asks must be right whatever the answer.
"""

from collections.abc import Collection

from psycopg import Connection

__all__ = ["heaviest_share"]


def heaviest_share(connection: Connection, schema: str, relations: Collection[str], columns: Collection[str]) -> float:
    """The share of the most frequent value of one of the columns, were it the same in all relations; 0 if unknown."""
    row = connection.execute(
        "SELECT max(frequent / all_rows) FROM ("
        "SELECT sum(s.most_common_freqs[1] * c.reltuples) AS frequent, "
        "(SELECT sum(greatest(reltuples, 0)) FROM pg_class WHERE relnamespace = to_regnamespace(%(schema)s) "
        "AND relname = ANY(%(relations)s)) AS all_rows "
        "FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename AND c.relnamespace = to_regnamespace(s.schemaname) "
        "WHERE s.schemaname = %(schema)s AND s.tablename = ANY(%(relations)s) AND s.attname = ANY(%(columns)s) "
        "AND c.reltuples > 0 GROUP BY s.attname) AS of_columns WHERE all_rows > 0",
        {"schema": schema, "relations": list(relations), "columns": list(columns)},
    ).fetchone()
    return float(row[0]) if row and row[0] is not None else 0.0

"""Two releases of a table intersected where they are: in PostgreSQL, by one join and one aggregation.

The definition is `anonymization.risk.intersection`'s; this is the same figure for tables too large for memory.
"""

from collections.abc import Sequence

from psycopg import Connection, sql

from privacy_platform.anonymization.risk.intersection import Intersection

__all__ = ["intersect_tables"]

_QUERY = """
WITH old AS (SELECT {key} AS person, hash_record_extended(ROW({names}), 0) AS class FROM {old}),
     new AS (SELECT {key} AS person, hash_record_extended(ROW({names}), 0) AS class FROM {new}),
     candidates AS (
         SELECT old.person IS NULL AS joined, new.person IS NULL AS "left", count(*) AS n
         FROM old FULL JOIN new ON old.person = new.person
         GROUP BY old.class, new.class, old.person IS NULL, new.person IS NULL)
SELECT coalesce(sum(n), 0), coalesce(sum(n) FILTER (WHERE NOT joined AND NOT "left"), 0),
       coalesce(sum(n) FILTER (WHERE joined), 0), coalesce(sum(n) FILTER (WHERE "left"), 0),
       coalesce(sum(n) FILTER (WHERE n < {k}), 0), coalesce(min(n), 0)
FROM candidates
"""


def intersect_tables(
    connection: Connection,
    old: tuple[str, str],
    new: tuple[str, str],
    key: str,
    quasi_identifiers: Sequence[str],
    k: int,
    *,
    work_memory: str = "128MB",
) -> Intersection:
    """Intersect two releases that are tables of the same database.

    Classes are compared by a 64-bit hash of their values (null is a value): for a million classes the chance that any
    two are taken for one is below 10⁻⁷.

    Args:
        connection: one that may read both; the memory setting ends with its transaction.
        old: schema and name of the standing release, one record a person.
        new: its successor, with the same columns.
        key: the column that names the person in both, not null.
        quasi_identifiers: columns of both.
        k: the smallest candidate set that is no exposure.
        work_memory: memory of the join and of the aggregation each, before they go to disk.
    """
    with connection.transaction():
        connection.execute("SELECT set_config('work_mem', %s, true)", [work_memory])
        row = connection.execute(
            sql.SQL(_QUERY).format(
                key=sql.Identifier(key),
                names=sql.SQL(", ").join(map(sql.Identifier, quasi_identifiers)),
                old=sql.Identifier(*old),
                new=sql.Identifier(*new),
                k=sql.Literal(k),
            )
        ).fetchone()
    people, stayed, joined, left, exposed, smallest = map(int, row) if row else (0,) * 6
    return Intersection(k, people, stayed, joined, left, exposed, smallest)

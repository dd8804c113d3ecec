"""k, l and t of a table, recomputed by PostgreSQL from its rows.

Independent of the search, its bookkeeping and its code: what is measured here is what a reader of the table can see.
Null is a value like any other, in quasi-identifiers and in sensitive columns.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import Connection, sql

from privacy_platform.anonymization.kanonymity.evaluate import TOLERANCE
from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness


@dataclass(frozen=True, slots=True)
class Anonymity:
    """What was measured.

    Attributes:
        records: rows of the table.
        classes: equivalence classes.
        k: size of the smallest class; 0 of an empty table.
        sensitive: figure → value, as `subscription_tier distinct l`: the smallest l, or the largest t, of any class.
        problems: what is less than required, in words.
    """

    records: int
    classes: int
    k: int
    sensitive: Mapping[str, float]
    problems: tuple[str, ...]


def measure(
    connection: Connection, relation: sql.Composable, quasi_identifiers: Sequence[str], required: Requirements
) -> Anonymity:
    """Measure a table against what is required of it, in the caller's transaction; the table is read once."""
    columns = sql.SQL(", ").join(map(sql.Identifier, quasi_identifiers))
    counted = sql.SQL(", ").join(map(sql.Identifier, (*quasi_identifiers, *required.sensitive)))
    connection.execute("DROP TABLE IF EXISTS pg_temp.anonymity_cells")
    connection.execute(
        sql.SQL(
            "CREATE TEMPORARY TABLE anonymity_cells ON COMMIT DROP AS "
            "SELECT {c}, count(*)::double precision AS __n FROM {t} GROUP BY {c}"
        ).format(c=counted, t=relation)
    )
    row = connection.execute(
        sql.SQL(
            "SELECT coalesce(min(n), 0), count(*), coalesce(sum(n), 0)::bigint "
            "FROM (SELECT sum(__n) AS n FROM pg_temp.anonymity_cells GROUP BY {}) c"
        ).format(columns)
    ).fetchone()
    smallest, classes, records = map(int, row) if row else (0, 0, 0)
    problems = []
    if records and smallest < required.k:
        problems.append(f"the smallest class of {', '.join(quasi_identifiers)} has {smallest} rows, not {required.k}")
    figures: dict[str, float] = {}
    for column, rules in required.sensitive.items():
        for rule in rules if records else ():
            name, value, holds, wanted = _figure(connection, columns, column, rule)
            if math.isfinite(value):
                figures[f"{column} {name}"] = value
            if not holds:
                problems.append(f"`{column}` has {name} = {value:.4g} in some class, and {wanted} is required")
    return Anonymity(records, classes, smallest, figures, tuple(problems))


def _figure(
    connection: Connection,
    columns: sql.Composable,
    column: str,
    rule: LDiversity | TCloseness,
) -> tuple[str, float, bool, str]:
    """(name, worst value of any class, whether that is enough, what is required)."""
    if isinstance(rule, TCloseness):
        query = _EQUAL if rule.distance == "equal" else _ORDERED
        worst = _worst(connection, query, columns, column)
        return f"{rule.distance} t", worst, worst <= rule.t + TOLERANCE, f"at most {rule.t:g}"
    if rule.kind == "recursive":
        # r1 / (r_l + … + r_m) < c in every class, so the largest quotient counts; it is infinite without an r_l.
        worst = _worst(connection, _RECURSIVE, columns, column, parameter=rule.l)
        return f"recursive c at l = {rule.l:g}", worst, worst < (rule.c or 0) - TOLERANCE, f"less than {rule.c:g}"
    query = _DISTINCT if rule.kind == "distinct" else _ENTROPY
    worst = _worst(connection, query, columns, column)
    return f"{rule.kind} l", worst, worst >= rule.l - TOLERANCE, f"at least {rule.l:g}"


def _worst(
    connection: Connection,
    query: str,
    columns: sql.Composable,
    column: str,
    *,
    parameter: float = 0,
) -> float:
    statement = sql.SQL(_CELLS + query).format(q=columns, s=sql.Identifier(column), p=sql.Literal(parameter))
    row = connection.execute(statement).fetchone()
    return float(row[0]) if row and row[0] is not None else 0.0


# `cells`: how often each value occurs in each class; `sizes`: of the classes; `whole`: the values in the table.
_CELLS = """
WITH cells AS MATERIALIZED (
         SELECT dense_rank() OVER (ORDER BY {q}) AS __class, __value, __n
         FROM (SELECT {q}, {s} AS __value, sum(__n) AS __n FROM pg_temp.anonymity_cells GROUP BY {q}, {s}) g),
     sizes AS (SELECT __class, sum(__n) AS __size FROM cells GROUP BY __class),
     whole AS (SELECT __value, sum(__n) / sum(sum(__n)) OVER () AS __share,
                      row_number() OVER (ORDER BY __value NULLS LAST) AS __place FROM cells GROUP BY __value)
"""
_DISTINCT = "SELECT min(l) FROM (SELECT count(*) AS l FROM cells GROUP BY __class) c"
_ENTROPY = """
SELECT min(l) FROM (SELECT exp(ln(sum(__n)) - sum(__n * ln(__n)) / sum(__n)) AS l FROM cells GROUP BY __class) c
"""
_RECURSIVE = """
SELECT max(quotient) FROM
(SELECT coalesce(max(__n) / nullif(sum(__n) FILTER (WHERE place >= {p}), 0), 'infinity') AS quotient FROM
 (SELECT __class, __n, row_number() OVER (PARTITION BY __class ORDER BY __n DESC) AS place FROM cells) r
 GROUP BY __class) c
"""
_EQUAL = """
SELECT max(d) FROM (SELECT (sum(abs(__n / __size - __share)) + 1 - sum(__share)) / 2 AS d
                    FROM cells JOIN sizes USING (__class) JOIN whole ON whole.__value IS NOT DISTINCT FROM cells.__value
                    GROUP BY __class) c
"""
# Earth mover's distance of values a step apart: the mean absolute difference of the cumulative shares.
_ORDERED = """
SELECT max(d) FROM
(SELECT __class, sum(abs(ahead)) / greatest(1, (SELECT count(*) - 1 FROM whole)) AS d FROM
 (SELECT sizes.__class, sum(coalesce(__n, 0) / __size - __share) OVER (PARTITION BY sizes.__class ORDER BY __place)
         AS ahead
  FROM sizes CROSS JOIN whole
  LEFT JOIN cells ON cells.__class = sizes.__class AND cells.__value IS NOT DISTINCT FROM whole.__value) a
 GROUP BY __class) c
"""

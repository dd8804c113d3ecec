"""k, l and t recomputed by PostgreSQL, against the definitions worked out in memory."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from psycopg import Connection, sql

from privacy_platform.anonymization.kanonymity.counting import count, merge, tuples_of
from privacy_platform.anonymization.kanonymity.evaluate import measure as measured_in_memory
from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness
from privacy_platform.warehouse.anonymity import measure
from privacy_platform.warehouse.connection import Role, connect

TABLE = sql.Identifier("measured")
QIS = ("s", "n")  # names that a careless query would use itself


@pytest.fixture
def connection(warehouse: Path) -> Iterator[Connection]:
    with connect(Role.PIPELINE) as connection:
        yield connection
        connection.rollback()


def fill(connection: Connection, frame: pl.DataFrame) -> None:
    connection.execute("CREATE TEMPORARY TABLE measured (s text, n bigint, illness text, salary bigint) ON COMMIT DROP")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO measured VALUES (%s, %s, %s, %s)", frame.rows())


def random_people(seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    rows = 300
    return pl.DataFrame(
        {
            "s": random.choice(np.array(["a", "b", None]), rows).tolist(),
            "n": random.choice(np.array([1, 2, None]), rows).tolist(),
            "illness": random.choice(np.array(["flu", "cold", "ague", None]), rows, p=[0.6, 0.2, 0.15, 0.05]).tolist(),
            "salary": random.integers(1, 9, rows),
        },
        schema={"s": pl.String, "n": pl.Int64, "illness": pl.String, "salary": pl.Int64},
    )


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_the_definitions(connection: Connection, seed: int) -> None:
    people = random_people(seed)
    fill(connection, people)
    rules = (
        LDiversity(1),
        LDiversity(1, "entropy"),
        LDiversity(2, "recursive", 1e6),
        TCloseness(1),
        TCloseness(1, "ordered"),
    )
    found = measure(connection, TABLE, QIS, Requirements(1, {"illness": rules, "salary": rules}))

    counts = merge([count(people, (*QIS, "illness", "salary"))], (*QIS, "illness", "salary"))
    tuples = tuples_of(counts, QIS, ("illness", "salary"))
    groups = np.arange(len(tuples.counts))
    expected = measured_in_memory(groups, len(groups), tuples, recursive_l={"illness": 2, "salary": 2})
    assert (found.k, found.classes, found.records, found.problems) == (expected.k, expected.classes, 300, ())
    for column, figures in expected.sensitive.items():
        assert found.sensitive[f"{column} distinct l"] == figures.distinct_l
        assert math.isclose(found.sensitive[f"{column} entropy l"], figures.entropy_l)
        assert math.isclose(found.sensitive[f"{column} recursive c at l = 2"], figures.recursive_c)
        assert math.isclose(found.sensitive[f"{column} equal t"], figures.t_equal, abs_tol=1e-12)
        assert math.isclose(found.sensitive[f"{column} ordered t"], figures.t_ordered, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (LDiversity(3), "distinct l = 2 in some class, and at least 3"),
        (LDiversity(2, "entropy"), "entropy l"),
        (LDiversity(2, "recursive", 1.0), "recursive c"),
        (LDiversity(3, "recursive", 9.0), "recursive c at l = 3 = inf"),
        (TCloseness(0.1), "equal t"),
        (TCloseness(0.1, "ordered"), "ordered t"),
    ],
)
def test_a_table_that_breaks_a_rule_is_told_so(
    connection: Connection, rule: LDiversity | TCloseness, complaint: str
) -> None:
    shown = [("a", 1, "flu", 1)] * 4 + [("a", 1, "cold", 2)] * 2 + [("b", 1, "cold", 3)] * 3 + [("b", 1, "ague", 4)] * 3
    fill(connection, pl.DataFrame(shown, schema=["s", "n", "illness", "salary"], orient="row"))
    found = measure(connection, TABLE, QIS, Requirements(6, {"illness": (rule,)}))
    assert found.k == 6
    assert len(found.problems) == 1
    assert complaint in found.problems[0]


def test_a_class_smaller_than_k_is_told(connection: Connection) -> None:
    shown = [("a", 1, "flu", 1)] * 3 + [(None, 1, "flu", 1)] * 2
    fill(connection, pl.DataFrame(shown, schema=["s", "n", "illness", "salary"], orient="row"))
    assert measure(connection, TABLE, QIS, Requirements(2)).problems == ()
    assert "has 2 rows, not 3" in measure(connection, TABLE, QIS, Requirements(3)).problems[0]


def test_an_empty_table_breaks_nothing(connection: Connection) -> None:
    fill(connection, random_people(0).clear())
    found = measure(connection, TABLE, QIS, Requirements(5, {"illness": (LDiversity(2),)}))
    assert (found.records, found.k, found.problems) == (0, 0, ())

"""Risk of a table in PostgreSQL: the same figures as in memory, and only of what the role can read."""

from collections.abc import Iterator

import polars as pl
import pytest
from psycopg import sql

from privacy_platform.anonymization.risk.choice import UnknownColumnError, choose
from privacy_platform.anonymization.risk.frame import FrameRelation
from privacy_platform.anonymization.risk.intersection import intersect
from privacy_platform.anonymization.risk.report import Options, assess
from privacy_platform.policy.load import load_policies
from privacy_platform.warehouse.connection import Role, adbc, connect
from privacy_platform.warehouse.intersection import intersect_tables
from privacy_platform.warehouse.relation import RelationError, open_relation
from privacy_platform.warehouse.risk import table_risk

pytestmark = pytest.mark.usefixtures("warehouse")

QUASI = ["age", "sex", "born", "height"]
# Values of every kind, with nulls, and a column that PostgreSQL cannot compare.
ROWS = """
SELECT 'p' || i AS id, (ARRAY['20-29', '30-39', '*', NULL])[1 + i % 4] AS age, i % 3 = 0 AS sex,
       CASE i % 7 WHEN 0 THEN NULL ELSE date '1980-01-01' + i % 2 END AS born, (i % 5) / 2.0 AS height,
       (i * i) % 11 AS income, json_build_object('n', i % 2) AS note, '\\x00'::bytea AS sealed
FROM generate_series(1, 400) i
UNION ALL SELECT 'p0', '*', NULL, NULL, NULL, 3, NULL, NULL
"""


@pytest.fixture(scope="module", autouse=True)
def tables(warehouse: object) -> Iterator[None]:
    with connect() as connection:
        connection.execute(f"CREATE TABLE anonymized.risk_people AS {ROWS}")
        connection.execute("GRANT SELECT ON anonymized.risk_people TO privacy_analyst")
        connection.execute("CREATE TABLE analytics.risk_people AS SELECT 1 AS x")
    yield
    with connect() as connection:
        connection.execute("DROP TABLE anonymized.risk_people, analytics.risk_people")


def in_memory() -> pl.DataFrame:
    with connect() as connection:
        cursor = connection.execute(
            "SELECT id, age, sex, born, height::float8, income, note::text FROM anonymized.risk_people"
        )
        assert cursor.description is not None
        return pl.DataFrame(cursor.fetchall(), [c.name for c in cursor.description], orient="row")


@pytest.mark.parametrize("suppressed", [None, "*"])
def test_the_figures_are_those_of_the_same_rows_in_memory(suppressed: str | None) -> None:
    options = Options(suppressed=suppressed)
    frame = FrameRelation(in_memory())
    columns = {"quasi_identifiers": ["age"] if suppressed else QUASI, "sensitive": ["income", "note"]}
    expected = assess(frame, choose(frame, **columns), table="t", options=options)

    found = table_risk("anonymized.risk_people", Role.ANALYST, {}, **columns, options=options)

    assert (found.role, found.table) == ("analyst", "anonymized.risk_people")
    assert (found.records, found.suppressed) == (expected.records, expected.suppressed)
    for part in ("sizes", "prosecutor", "columns", "combinations", "all_columns_share", "notes"):
        assert getattr(found, part) == getattr(expected, part), part
    for ours, theirs in zip(found.sensitive, expected.sensitive, strict=True):
        assert ours.distinct_l == theirs.distinct_l
        assert ours.entropy_l == pytest.approx(theirs.entropy_l)
        assert ours.t_equal == pytest.approx(theirs.t_equal)
        assert ours.t_ordered == (None if theirs.t_ordered is None else pytest.approx(theirs.t_ordered))
    if suppressed:
        assert found.suppressed == 101


def test_what_looks_like_an_identifier_and_what_is_sealed_is_left_out() -> None:
    with adbc(Role.ANALYST) as connection:
        relation = open_relation(connection, "anonymized.risk_people")
        choice = choose(relation)

    assert choice.pseudonyms == ("id",)
    assert choice.quasi_identifiers == ("age", "sex", "born", "height", "income", "note")


def test_a_role_with_some_columns_is_judged_by_those() -> None:
    with connect() as connection:
        connection.execute("REVOKE SELECT ON anonymized.risk_people FROM privacy_analyst")
        connection.execute("GRANT SELECT (age, income) ON anonymized.risk_people TO privacy_analyst")
    try:
        report = table_risk("anonymized.risk_people", Role.ANALYST, {}, sensitive=["income"])
        assert [column.name for column in report.columns] == ["age", "income"]
        assert report.k >= 100
        with pytest.raises(UnknownColumnError, match="`born`"):
            table_risk("anonymized.risk_people", Role.ANALYST, {}, quasi_identifiers=["born"])
        assert table_risk("anonymized.risk_people", Role.PIPELINE, {}, sensitive=["income"]).k == 1
    finally:
        with connect() as connection:
            connection.execute("GRANT SELECT ON anonymized.risk_people TO privacy_analyst")


@pytest.mark.parametrize(
    ("table", "role", "message"),
    [
        ("risk_people", Role.ANALYST, "analytics.risk_people, anonymized.risk_people"),
        ("no_such_table", Role.ANALYST, "no one table `no_such_table`"),
        ("anonymized.risk_people", Role.DASHBOARD, "that this role may read"),
        ("vault.subjects", Role.ANALYST, "that this role may read"),
    ],
)
def test_what_cannot_be_read_is_refused(table: str, role: Role, message: str) -> None:
    with pytest.raises(RelationError, match=message):
        table_risk(table, role, {})


def test_a_bare_name_is_enough_where_the_role_sees_one_table() -> None:
    assert table_risk("risk_people", Role.DASHBOARD, {}).table == "analytics.risk_people"


def test_the_policy_says_what_the_columns_of_its_table_are() -> None:
    policy = load_policies().datasets["users"]
    with connect() as connection:
        connection.execute(
            "CREATE TABLE anonymized.risk_users AS SELECT 'tok_' || i AS user_token, "
            "'65+' AS age_bucket, 'f' AS gender, 'West' AS region, 'free' AS subscription_tier, i::text AS state "
            "FROM generate_series(1, 9) i"
        )
        connection.execute("GRANT SELECT ON anonymized.risk_users TO privacy_analyst")
    try:
        report = table_risk("risk_users", Role.ANALYST, {"risk_users": policy})
    finally:
        with connect() as connection:
            connection.execute("DROP TABLE anonymized.risk_users")

    assert set(report.of_kind("quasi_identifier")) == {"age_bucket", "gender", "region", "state"}
    assert (report.of_kind("sensitive"), report.of_kind("pseudonym")) == (("subscription_tier",), ("user_token",))
    assert (report.k, report.unique) == (1, 9)


def test_releases_are_intersected_as_in_memory() -> None:
    old = "SELECT id, age, sex, born, height FROM anonymized.risk_people"
    new = (
        "SELECT CASE WHEN id LIKE '%7' THEN 'new' || id ELSE id END AS id, "
        "CASE WHEN id LIKE '%3' THEN '30-39' ELSE age END AS age, sex, born, height FROM anonymized.risk_people"
    )
    with connect() as connection:
        frames = []
        for name, query in (("old", old), ("new", new)):
            connection.execute(f"CREATE TABLE staging.risk_{name} AS {query}")
            rows = connection.execute(f"SELECT id, age, sex, born, height::float8 FROM staging.risk_{name}").fetchall()
            frames.append(pl.DataFrame(rows, ["id", *QUASI], orient="row"))
        found = intersect_tables(connection, ("staging", "risk_old"), ("staging", "risk_new"), "id", QUASI, 5)
        connection.rollback()

    assert found == intersect(frames[0], frames[1], "id", QUASI, 5)
    assert found.exposed > 0
    assert found.joined == found.left == 40


def test_memory_for_the_intersection_is_given_back() -> None:
    with connect() as connection:
        people = ("anonymized", "risk_people")
        before = connection.execute("SHOW work_mem").fetchone()
        connection.commit()
        found = intersect_tables(connection, people, people, "id", ["age"], 5)
        assert (found.exposed, found.stayed) == (0, 401)
        assert connection.execute(sql.SQL("SHOW work_mem")).fetchone() == before

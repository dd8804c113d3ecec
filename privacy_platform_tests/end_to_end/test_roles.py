"""What each role may do, by the URLs the command line gives out, after releases that replaced and re-made tables."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors, sql

from privacy_platform_tests.end_to_end.homes import Home
from privacy_platform_tests.end_to_end.people import events, people, write
from privacy_platform_tests.end_to_end.test_dirty_data import policy_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

AGGREGATES = ("user_cohorts", "daily_event_metrics", "event_windows", "product_metrics")
VIEWS = ("v_event_windows_last_hour", "v_recent_events", "v_subscription_metrics")
Logins = dict[str, psycopg.Connection]
ROLES = ("analyst", "linkage", "dashboard", "compliance", "pipeline")


@pytest.fixture(scope="module")
def home(homes: Callable[..., Home], spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> Home:
    # Exact aggregates: of sixty people a private one shows next to nothing, and its views with it.
    exact = {name: {"mode": "exact_with_minimum"} for name in AGGREGATES}
    home = homes(PRIVACY_PLATFORM_POLICIES=str(policy_folder(tmp_path_factory.mktemp("exact"), exact)))
    someone = people(60)
    write(home.landing / "users.jsonl", someone)
    write(home.landing / "events.jsonl", events(someone, 600))
    assert home.materialize("*").succeeded
    first = home.value("SELECT 'anonymized.anonymized_users'::regclass::oid")
    assert home.materialize("raw_users,anonymized_users").succeeded
    assert home.value("SELECT 'anonymized.anonymized_users'::regclass::oid") == first
    # With other columns the parent is made anew, twice; its views and grants must come back with it.
    other = policy_folder(
        tmp_path_factory.mktemp("policies"), {"users": {"key": "user_id", "description": "Registered users, again."}}
    )
    text = (other / "users.yaml").read_text(encoding="utf-8")
    assert "total_purchases:" in text
    (other / "users.yaml").write_text(text.replace("output: email_hash", "output: mail_hash"), encoding="utf-8")
    assert Home(home.path, {"PRIVACY_PLATFORM_POLICIES": str(other)}).materialize("anonymized_users").succeeded
    assert home.value("SELECT 'anonymized.anonymized_users'::regclass::oid") != first
    assert home.materialize("anonymized_users").succeeded
    return home


@pytest.fixture(scope="module")
def logins(home: Home) -> Iterator[Logins]:
    """A connection for each role, by the URL that the command line prints."""
    found = {}
    for role in ROLES:
        url = home.run("db", "url", "--role", role).stdout.strip()
        found[role] = psycopg.connect(url, autocommit=True)
    yield found
    for connection in found.values():
        connection.close()


def _readable(connection: psycopg.Connection, names: list[str]) -> set[str]:
    """The tables that a login can read, by reading them."""
    found = set()
    for name in names:
        try:
            connection.execute(f"SELECT * FROM {name} LIMIT 1".encode())
            found.add(name)
        except errors.InsufficientPrivilege:
            continue
    return found


def _relations(home: Home, *schemas: str, partitions: bool = False) -> list[str]:
    """Tables and views of some schemas; grants are on parents, so partitions are open to nobody by themselves."""
    return [
        name
        for (name,) in home.rows(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname = ANY('{{{','.join(schemas)}}}') "
            f"AND ({partitions} OR NOT c.relispartition) ORDER BY 1"
        )
    ]


CLOSED = ("raw", "vault", "staging", "governance")


def test_an_analyst_reads_published_zones_and_nothing_else(home: Home, logins: Logins) -> None:
    assert _readable(logins["analyst"], _relations(home, *CLOSED, partitions=True)) == set()
    published = _relations(home, "anonymized", "analytics")
    # Tables that hold what is left of identifiers are open to analysts by column.
    by_column = {"anonymized.anonymized_users", "anonymized.anonymized_events"}
    assert _readable(logins["analyst"], published) == set(published) - by_column
    # The people's view shows a row a person, so it lies in their zone and not in the dashboards'.
    assert {"anonymized.anonymized_users", "anonymized.v_user_overview"} <= set(published)


LEFT_OF_IDENTIFIERS = {
    "anonymized.anonymized_users": {"email_hash", "first_name_hash", "last_name_hash", "ip_subnet", "phone_suffix"},
    "anonymized.anonymized_events": {"session_hash", "ip_subnet"},
}


@pytest.mark.parametrize("table", LEFT_OF_IDENTIFIERS)
def test_what_is_left_of_identifiers_is_for_linkage_only(home: Home, logins: Logins, table: str) -> None:
    columns = {
        name
        for (name,) in home.rows(
            f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        )
    }
    refused = set()
    for column in columns:
        try:
            logins["analyst"].execute(f'SELECT "{column}" FROM {table} LIMIT 1'.encode())
        except errors.InsufficientPrivilege:
            refused.add(column)
    assert refused == LEFT_OF_IDENTIFIERS[table]
    logins["linkage"].execute(f"SELECT * FROM {table} LIMIT 1".encode())


def test_linkage_reads_published_zones_and_nothing_else(home: Home, logins: Logins) -> None:
    assert _readable(logins["linkage"], _relations(home, *CLOSED, partitions=True)) == set()
    published = _relations(home, "anonymized", "analytics")
    assert _readable(logins["linkage"], published) == set(published)


def test_a_dashboard_reads_aggregates_and_their_views_only(home: Home, logins: Logins) -> None:
    assert _readable(logins["dashboard"], _relations(home, *CLOSED, "anonymized", partitions=True)) == set()
    shown = _relations(home, "analytics")
    assert _readable(logins["dashboard"], shown) == set(shown)
    assert {f"analytics.{name}" for name in (*AGGREGATES, *VIEWS)} == set(shown)


@pytest.mark.parametrize("view", ["anonymized.v_user_overview", *(f"analytics.{view}" for view in VIEWS)])
def test_views_show_rows_after_their_tables_were_made_anew(logins: Logins, view: str) -> None:
    assert logins["analyst"].execute(f"SELECT FROM {view} LIMIT 1".encode()).rowcount == 1


def test_compliance_reads_raw_vault_and_governance(home: Home, logins: Logins) -> None:
    closed = {name for name in _relations(home, "raw", "vault", "governance") if "schema_migrations" not in name}
    assert _readable(logins["compliance"], sorted(closed)) == closed
    assert _readable(logins["compliance"], _relations(home, "staging", partitions=True)) == set()


WRITES = (
    "INSERT INTO {t} SELECT * FROM {t} LIMIT 1",
    "UPDATE {t} SET {c} = {c}",
    "DELETE FROM {t}",
    "TRUNCATE {t}",
    "DROP TABLE {t}",
    "ALTER TABLE {t} RENAME TO gone",
    "CREATE TRIGGER x BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
)


@pytest.mark.parametrize("role", ["analyst", "linkage", "dashboard", "compliance"])
def test_readers_change_no_zone(home: Home, logins: Logins, role: str) -> None:
    zones = _relations(home, "raw", "anonymized", "analytics", "vault", partitions=True)
    tables = [name for name in zones if ".v_" not in name]
    for name in tables:
        [(column,)] = home.rows(
            "SELECT attname FROM pg_attribute "
            f"WHERE attrelid = '{name}'::regclass AND attnum > 0 ORDER BY attnum LIMIT 1"
        )
        for statement in WRITES:
            text = statement.format(t=name, c=column)
            with pytest.raises((errors.InsufficientPrivilege, errors.WrongObjectType)):
                logins[role].execute(text.encode())


@pytest.mark.parametrize("role", ROLES)
def test_nobody_but_its_owner_changes_the_audit_log(home: Home, logins: Logins, role: str) -> None:
    connection = logins[role]
    for statement in (
        *WRITES[1:],
        "ALTER TABLE {t} DISABLE TRIGGER ALL",
        "INSERT INTO {t} (seq, action) VALUES (1, 'x')",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.format(t="governance.privacy_audit_log", c="outcome").encode())
    for statement in ("UPDATE governance.audit_head SET seq = 0", "DELETE FROM governance.audit_head"):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())
    for group in ("privacy_platform_owner", "privacy_pipeline", "postgres"):
        if role == "pipeline" and group == "privacy_pipeline":
            continue
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(group)))
    assert home.json("audit", "verify")["ok"] is True


@pytest.mark.parametrize("role", ROLES)
def test_no_role_reaches_dagsters_database_or_makes_functions(home: Home, logins: Logins, role: str) -> None:
    url = home.json("db", "url", "--role", role)["url"]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(url.replace("/privacy_platform?", "/dagster?"))
    if role != "pipeline":
        with pytest.raises(errors.InsufficientPrivilege):
            logins[role].execute("CREATE FUNCTION analytics.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        with pytest.raises(errors.InsufficientPrivilege):
            logins[role].execute("CREATE TEMPORARY TABLE x (y int)")


def test_tables_and_columns_say_what_they_hold(home: Home) -> None:
    bare = home.rows(
        "SELECT format('%I.%I', n.nspname, c.relname), a.attname FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
        "WHERE n.nspname IN ('raw', 'anonymized', 'analytics', 'governance', 'vault') AND c.relkind IN ('r', 'p', 'v') "
        "AND NOT c.relispartition AND NOT a.attisdropped "
        "AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)"
    )
    assert bare == []
    assert "PII" in home.value("SELECT col_description('anonymized.anonymized_users'::regclass, 2)")

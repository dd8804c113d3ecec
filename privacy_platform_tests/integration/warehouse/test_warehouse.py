import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from psycopg import errors

from privacy_platform import settings
from privacy_platform.warehouse import credentials, embedded, migrations
from privacy_platform.warehouse.connection import (
    URL_VARIABLE,
    Role,
    WarehouseConnectionError,
    adbc,
    connect,
    connect_to,
    dagster_url,
    database_url,
    with_database,
)
from privacy_platform.warehouse.migrations import MigrationError, ensure_warehouse, migrate

ROOT = Path(migrations.__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("warehouse")
ZONES = ("raw", "anonymized", "analytics", "staging")


@pytest.fixture
def zone_tables() -> Iterator[None]:
    """A partitioned table with one row in each zone, as the pipeline makes them."""
    with connect() as connection:
        for zone in ZONES:
            connection.execute(f"CREATE TABLE {zone}.probe (x int, day date) PARTITION BY LIST (day)")
            connection.execute(f"CREATE TABLE {zone}.probe_d PARTITION OF {zone}.probe DEFAULT")
            connection.execute(f"INSERT INTO {zone}.probe VALUES (1, '2026-01-01')")
    yield
    with connect() as connection:
        for zone in ZONES:
            connection.execute(f"DROP TABLE {zone}.probe")


def may(role: Role, statement: str) -> bool:
    with connect(role) as connection:
        try:
            connection.execute(statement)
        except errors.InsufficientPrivilege:
            return False
        finally:
            connection.rollback()
    return True


READS = {
    # The anonymized zone is granted table by table, column by column, when it is released; see test_anonymity.
    Role.ANALYST: {"analytics.probe", "analytics.probe_d"},
    Role.LINKAGE: {"analytics.probe", "analytics.probe_d"},
    Role.DASHBOARD: {"analytics.probe", "analytics.probe_d"},
    Role.COMPLIANCE: {
        "raw.probe",
        "raw.probe_d",
        "raw.quarantine",
        "vault.subjects",
        "governance.privacy_audit_log",
        "governance.audit_head",
        "governance.data_lineage",
        "governance.privacy_budget",
        "governance.privacy_accounts",
        "governance.private_releases",
        "governance.private_utility",
        "governance.anonymity_releases",
    },
}
TABLES = {
    *(f"{zone}.{name}" for zone in ZONES for name in ("probe", "probe_d")),
    *READS[Role.COMPLIANCE],
    "staging.commits",
    "governance.schema_migrations",
}


@pytest.mark.usefixtures("zone_tables")
@pytest.mark.parametrize("role", READS)
def test_a_role_reads_its_zones_and_nothing_else(role: Role) -> None:
    assert {table for table in TABLES if may(role, f"SELECT FROM {table}")} == READS[role]


@pytest.mark.usefixtures("zone_tables")
@pytest.mark.parametrize("role", READS)
def test_readers_write_nothing(role: Role) -> None:
    for table in TABLES:
        assert not may(role, f"DELETE FROM {table}"), table
        assert not may(role, f"TRUNCATE {table}"), table
        # Compliance appends to the audit log, and to nothing else: whoever unseals must be able to say so.
        if (role, table) != (Role.COMPLIANCE, "governance.privacy_audit_log"):
            assert not may(role, f"INSERT INTO {table} DEFAULT VALUES"), table
        assert not may(role, f"DROP TABLE {table}"), table
    for schema in (*ZONES, "vault", "governance", "public"):
        assert not may(role, f"CREATE TABLE {schema}.mine (x int)"), schema
    assert not may(role, "CREATE TEMPORARY TABLE mine (x int)")
    assert not may(role, "SET ROLE privacy_pipeline")
    assert not may(role, "SET ROLE privacy_platform_owner")


def test_nothing_is_granted_to_public() -> None:
    with connect(Role.ADMIN) as connection:
        granted = connection.execute(
            """
            SELECT 'schema ' || nspname FROM pg_namespace, aclexplode(nspacl) a
            WHERE a.grantee = 0 AND nspname = ANY (%(schemas)s)
            UNION ALL SELECT 'table ' || relname FROM pg_class c, aclexplode(relacl) a
            WHERE a.grantee = 0 AND relnamespace::regnamespace::text = ANY (%(schemas)s)
            UNION ALL SELECT 'function ' || proname
            FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
            WHERE a.grantee = 0 AND pronamespace::regnamespace::text = ANY (%(schemas)s)
            UNION ALL SELECT 'database ' || datname
            FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a
            WHERE a.grantee = 0 AND datname IN ('privacy_platform', 'dagster', 'postgres')
            """,
            {"schemas": [*ZONES, "vault", "governance"]},
        ).fetchall()
    assert granted == []


def test_the_pipeline_owns_what_it_creates_and_governs_nothing_else() -> None:
    with connect() as connection:
        connection.execute("CREATE TABLE staging.owned (x int)")
        row = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'owned'").fetchone()
        assert row == ("privacy_pipeline",)
        connection.rollback()
    for statement in (
        "DELETE FROM vault.subjects",
        "UPDATE governance.data_lineage SET records_in = 0",
        "DELETE FROM governance.privacy_budget",
        "DELETE FROM governance.privacy_accounts",
        "UPDATE governance.private_releases SET stands = '{}'",
        "DROP TABLE vault.subjects",
        "CREATE TABLE vault.mine (x int)",
        "UPDATE governance.audit_head SET seq = 0",
        "DELETE FROM governance.schema_migrations",
    ):
        assert not may(Role.PIPELINE, statement), statement


def test_every_table_and_column_has_a_comment() -> None:
    with connect(Role.ADMIN) as connection:
        bare = connection.execute(
            """
            SELECT c.oid::regclass::text, coalesce(a.attname, '') FROM pg_class c
            LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
              AND c.relnamespace::regnamespace::text IN ('raw', 'vault', 'governance', 'staging')
              AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)
            """
        ).fetchall()
    assert bare == []


def test_sessions_are_bounded_and_in_utc() -> None:
    with connect(statement_timeout=12, lock_timeout=3, application_name="probe") as connection:
        row = connection.execute(
            "SELECT session_user, current_user, current_setting('TimeZone'), current_setting('lock_timeout'),"
            " current_setting('statement_timeout'), current_setting('application_name')"
        ).fetchone()
    assert row == ("privacy_platform_pipeline", "privacy_pipeline", "UTC", "3s", "12s", "probe")


def test_only_publications_wait_for_the_disk() -> None:
    for options, expected in (({}, "on"), ({"wait_for_disk": False}, "off")):
        with connect(**options) as connection:
            assert connection.execute("SHOW synchronous_commit").fetchone() == (expected,)
    with adbc() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('synchronous_commit'), current_user::text")
        assert cursor.fetchone() == ("off", "privacy_pipeline")


def test_dagster_has_a_database_of_its_own() -> None:
    engine = sqlalchemy.create_engine(dagster_url(), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT current_database()")).scalar() == "dagster"
        connection.execute(sqlalchemy.text("CREATE TABLE probe (x int)"))
        connection.rollback()
    with pytest.raises(WarehouseConnectionError):
        connect_to(with_database(dagster_url(), "privacy_platform"))
    with pytest.raises(WarehouseConnectionError):
        connect_to(with_database(database_url(Role.PIPELINE), "dagster"))


def test_errors_never_hold_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    url = database_url(Role.ANALYST)
    wrong = url.replace("privacy_platform_analyst:", "privacy_platform_analyst:S3kret")
    monkeypatch.setenv(f"{URL_VARIABLE}_ANALYST", wrong)
    for broken in (
        f"{url}&password=S3kret",
        "mysql://u:S3kret@h/d",
        "postgresql://u:S3kret@h:port/d",
        "host=h password=S3kret",
        "postgresql://u:S3kret%zz@h/d",
        "postgresql://u:S3kret@127.0.0.1:1/d",
    ):
        for attempt in (connect, adbc):
            with pytest.raises(WarehouseConnectionError) as caught:
                attempt(Role.ANALYST)
            assert "S3kret" not in "".join(traceback.format_exception(caught.value))
        monkeypatch.setenv(f"{URL_VARIABLE}_ANALYST", broken)


def test_a_home_that_was_never_set_up_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path))
    with pytest.raises(WarehouseConnectionError, match="not set up"):
        database_url()


def test_ensuring_again_is_quick() -> None:
    ensure_warehouse()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        ensure_warehouse()
        times.append(time.perf_counter() - began)
    assert min(times) < 0.05


def test_a_lost_database_is_made_again() -> None:
    name = "privacy_platform_lost"
    admin = with_database(database_url(Role.ADMIN), name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URL_VARIABLE, admin)
        ensure_warehouse()
        ensure_warehouse()
        patch.delenv(URL_VARIABLE)
        with connect(Role.ADMIN, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name}")
        patch.setenv(URL_VARIABLE, admin)
        ensure_warehouse()
        with connect() as connection:
            row = connection.execute("SELECT current_database(), count(*) FROM vault.subjects").fetchone()
            assert row == (name, 0)
    ensure_warehouse()
    with connect(Role.ADMIN, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name}")


def test_three_processes_set_up_one_home_at_once() -> None:
    home = Path(tempfile.mkdtemp(prefix="pp-"))
    script = "from privacy_platform.warehouse.migrations import ensure_warehouse; ensure_warehouse()"
    environment = {**os.environ, settings.HOME_VARIABLE: str(home)}
    try:
        running = [
            subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
            for _ in range(3)
        ]
        failures = [process.communicate(timeout=90)[1].decode() for process in running]
        assert [process.returncode for process in running] == [0, 0, 0], failures
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(settings.HOME_VARIABLE, str(home))
            with connect(Role.COMPLIANCE) as connection:
                row = connection.execute("SELECT count(*) FROM governance.privacy_audit_log").fetchone()
                assert row == (len(list(migrations.sql_directory().glob("0*.sql"))),)
    finally:
        embedded.stop(home)
        shutil.rmtree(home)


@pytest.fixture
def server_of_our_own() -> Iterator[str]:
    """The URL of an administrator without superuser rights in a server the platform did not make."""
    home = Path(tempfile.mkdtemp(prefix="pp-"))
    server = embedded.start(home)
    with psycopg.connect(
        host=str(server.socket_directory),
        port=embedded.PORT,
        user="postgres",
        dbname="postgres",
        password=credentials.read_credentials(home).passwords["postgres"],
        autocommit=True,
    ) as connection:
        connection.execute("CREATE ROLE chief LOGIN CREATEDB CREATEROLE PASSWORD 'p@ss'")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        yield f"postgresql+psycopg://chief:p%40ss@/people?host={server.socket_directory}&port={embedded.PORT}"
    finally:
        embedded.stop(home)
        shutil.rmtree(home)


def test_a_given_server_is_set_up_without_superuser(
    server_of_our_own: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(URL_VARIABLE, server_of_our_own)
    monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path / "first"))
    analyst = server_of_our_own.replace("chief:p%40ss", "ana:s%2Fecret")
    monkeypatch.setenv(f"{URL_VARIABLE}_ANALYST", analyst)
    ensure_warehouse()
    ensure_warehouse()
    with connect() as connection:
        connection.execute("CREATE TABLE analytics.t (x int)")
        assert connection.execute("SELECT current_database()").fetchone() == ("people",)
    with connect(Role.ANALYST) as connection:
        assert connection.execute("SELECT session_user, count(*) FROM analytics.t").fetchone() == ("ana", 0)
    assert not (tmp_path / "first" / "postgres").exists()
    assert stat.S_IMODE((tmp_path / "first" / "secrets" / "database.json").stat().st_mode) == 0o600
    sqlalchemy.create_engine(dagster_url(), poolclass=sqlalchemy.NullPool).connect().close()

    # A second home must not take the logins away from the first.
    monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path / "second"))
    with pytest.raises(WarehouseConnectionError, match=r"secrets/database\.json"):
        ensure_warehouse()
    monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path / "first"))
    connect().close()


@pytest.fixture
def migrations_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "sql"
    shutil.copytree(migrations.sql_directory(), folder)
    monkeypatch.setattr(migrations, "sql_directory", lambda: folder)
    migrations._migrations.cache_clear()
    yield folder
    migrations._migrations.cache_clear()


def test_a_failing_migration_leaves_nothing(migrations_folder: Path) -> None:
    number = len(migrations._migrations()) + 1
    (migrations_folder / f"{number:04}_good.sql").write_text("CREATE TABLE governance.good (x int);")
    (migrations_folder / f"{number + 1:04}_bad.sql").write_text("CREATE TABLE governance.good (x int); SELECT '100 %';")
    migrations._migrations.cache_clear()
    with pytest.raises(MigrationError, match=r"_bad\.sql"):
        migrate(database_url(Role.ADMIN))
    with connect(Role.ADMIN) as connection:
        assert connection.execute("SELECT to_regclass('governance.good')").fetchone() == (None,)


def test_an_edited_migration_and_a_newer_database_are_refused(migrations_folder: Path) -> None:
    first = next(migrations_folder.glob("0001_*"))
    text = first.read_bytes()
    first.write_bytes(text + b"-- edited\n")
    migrations._migrations.cache_clear()
    with pytest.raises(MigrationError, match="edited"):
        migrate(database_url(Role.ADMIN))
    first.write_bytes(text)
    max(migrations_folder.glob("0*.sql")).unlink()
    migrations._migrations.cache_clear()
    with pytest.raises(MigrationError, match="later one"):
        migrate(database_url(Role.ADMIN))


def test_a_gap_in_the_numbers_is_refused(migrations_folder: Path) -> None:
    (migrations_folder / "0099_late.sql").write_text("SELECT 1;")
    migrations._migrations.cache_clear()
    with pytest.raises(MigrationError, match="without gaps"):
        migrate(database_url(Role.ADMIN))


def test_damaged_passwords_are_refused(tmp_path: Path) -> None:
    path = credentials.credentials_file(tmp_path)
    path.parent.mkdir()
    path.write_text(json.dumps({"passwords": 1}))
    with pytest.raises(credentials.CredentialsError, match="damaged"):
        credentials.read_credentials(tmp_path)

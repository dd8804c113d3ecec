"""Bring the warehouse to the state this version wants: server, database, roles, schema.

`sql/NNNN_name.sql` are plain SQL files, applied in order of their number, all pending ones in one transaction
with the rows that record them, under a lock of the database: a killed run leaves nothing half done and no
lock behind. A file that changed after it was applied is refused, so is a database newer than this version.

Not yoyo-migrations 9, tried first: it commits a migration and its record in two transactions, its lock is a
row that outlives a killed process, it does not see edited files, and it takes `%` in a file for a parameter.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from privacy_platform import settings
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.governance.audit import AuditAction, AuditEntry, record
from privacy_platform.locks import LockError, exclusive
from privacy_platform.warehouse import embedded, roles
from privacy_platform.warehouse.connection import (
    DAGSTER,
    URL_VARIABLE,
    Role,
    WarehouseConnectionError,
    connect_to,
    dagster_url,
    database_name,
    database_url,
    given_url,
    is_embedded,
    login_name,
    login_of,
    with_database,
)
from privacy_platform.warehouse.credentials import (
    CredentialsError,
    note_ensured,
    obtain_passwords,
    read_credentials,
)

# Raised when what `roles` does changes, so that every home does it again.
_ROLES_REVISION = 1
_FILE_NAME = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+\.sql")
_LOCK = int.from_bytes(hashlib.sha256(b"privacy_platform.migrations").digest()[:8], "big", signed=True)
_BOOTSTRAP = """
CREATE SCHEMA IF NOT EXISTS governance;
CREATE TABLE IF NOT EXISTS governance.schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE governance.schema_migrations IS 'Migrations that this database has had.';
COMMENT ON COLUMN governance.schema_migrations.number IS 'Number of the migration.';
COMMENT ON COLUMN governance.schema_migrations.name IS 'Name of its file.';
COMMENT ON COLUMN governance.schema_migrations.sha256 IS 'SHA-256 of its file.';
COMMENT ON COLUMN governance.schema_migrations.applied_at IS 'When it was applied.';
"""


class MigrationError(PrivacyPlatformError):
    """The schema of the warehouse cannot be brought to the state this version wants."""


@dataclass(frozen=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sha256: str
    text: bytes = field(repr=False)


def ensure_warehouse() -> None:
    """Make the warehouse ready for a run: start, create and migrate what is missing. Cheap when nothing is.

    Idempotent and safe from many processes at once.

    Raises:
        EmbeddedServerError, WarehouseConnectionError, CredentialsError, LockError, MigrationError: with the mend.
    """
    home = settings.home()
    if is_embedded():
        embedded.start(home)
    wanted = _digest()
    if _is_ensured(home, wanted):
        return
    with exclusive(home, "warehouse", seconds=300):
        if _is_ensured(home, wanted):
            return
        try:
            _set_up(home)
        except psycopg.Error as error:
            raise MigrationError(
                f"setting up the warehouse failed ({_reason(error)}); the administrator needs the rights to "
                "create roles and databases, and the roles of the platform that exist WITH ADMIN OPTION"
            ) from None
        note_ensured(home, wanted)


def migrate(url: str) -> Sequence[str]:
    """Apply the pending migrations to the database of the administrator's `url`; the names of those applied.

    Raises:
        MigrationError: a file failed (nothing is applied then), was edited, or the database is newer.
    """
    migrations = _migrations()
    with connect_to(url, application_name="privacy_platform migrate") as connection:
        if _applied(connection) == _expected(migrations):
            return []
        connection.rollback()
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(roles.OWNER)))
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(_BOOTSTRAP)
        applied = _applied(connection)
        _refuse_foreign(applied or {}, migrations)
        pending = [migration for migration in migrations if migration.number not in (applied or {})]
        for migration in pending:
            _apply(connection, migration)
        for migration in pending:
            details = {"migration": migration.name, "sha256": migration.sha256}
            record(connection, AuditEntry(action=AuditAction.MIGRATE, details=details))
    return [migration.name for migration in pending]


def sql_directory() -> Path:
    """The migrations: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for directory in (package / "sql", package.parent / "sql"):
        if (directory / "roles.sql").is_file():
            return directory
    raise MigrationError("the migrations (sql/) are missing from the installation: install privacy-platform again")


@cache
def _migrations() -> Sequence[Migration]:
    found = []
    for path in sorted(sql_directory().glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is not None:
            text = path.read_bytes()
            digest = hashlib.sha256(text).hexdigest()
            found.append(Migration(int(match["number"]), path.name, digest, text))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"the files in {sql_directory()} are not numbered 0001, 0002, … without gaps")
    return found


def _expected(migrations: Sequence[Migration]) -> Mapping[int, str]:
    return {migration.number: migration.sha256 for migration in migrations}


def _applied(connection: psycopg.Connection) -> Mapping[int, str] | None:
    """Number and digest of what was applied; None, and the transaction is spent, when nothing ever was."""
    try:
        rows = connection.execute("SELECT number, sha256 FROM governance.schema_migrations").fetchall()
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.InsufficientPrivilege,
    ):
        connection.rollback()
        return None
    return {int(number): str(digest) for number, digest in rows}


def _refuse_foreign(applied: Mapping[int, str], migrations: Sequence[Migration]) -> None:
    expected = _expected(migrations)
    newer = sorted(set(applied) - set(expected))
    if newer:
        raise MigrationError(
            f"the database has had migration {newer[-1]:04}, which this version does not know: "
            "install the version of privacy-platform that made it, or a later one"
        )
    for migration in migrations:
        if applied.get(migration.number, migration.sha256) != migration.sha256:
            raise MigrationError(
                f"{migration.name} was edited after it was applied: restore it and change it in a new file"
            )


def _apply(connection: psycopg.Connection, migration: Migration) -> None:
    try:
        connection.execute(migration.text)
        connection.execute(
            "INSERT INTO governance.schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
            [migration.number, migration.name, migration.sha256],
        )
    except psycopg.Error as error:
        raise MigrationError(f"migration {migration.name} failed and nothing was applied: {_reason(error)}") from None


def _reason(error: psycopg.Error) -> str:
    """The server's primary message: set-up and migrations touch names of objects only, never records."""
    return error.diag.message_primary or type(error).__name__


# --- the whole warehouse ------------------------------------------------------------------------------------


def _digest() -> str:
    """What `ensure_warehouse` would do, as a digest: the files, the server, the logins."""
    admin = given_url(Role.ADMIN)
    server = "embedded" if admin is None else urlsplit(admin)._replace(query="").geturl().rpartition("@")[2]
    given = [given_url(role) for role in roles.GROUPS]
    parts = [
        str(_ROLES_REVISION),
        server,
        *(login_of(url)[0] if url else "" for url in given),
        hashlib.sha256((sql_directory() / "roles.sql").read_bytes()).hexdigest(),
        *(migration.sha256 for migration in _migrations()),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _is_ensured(home: Path, wanted: str) -> bool:
    """Both sides must say so: this home (its logins work) and the database (there, and at this version)."""
    if read_credentials(home).ensured != wanted:
        return False
    try:
        with connect_to(database_url(Role.ADMIN)) as connection:
            return _applied(connection) == _expected(_migrations())
    except (WarehouseConnectionError, CredentialsError, LockError):
        return False


def _set_up(home: Path) -> None:
    ours = [login_name(role) for role in roles.GROUPS if given_url(role) is None]
    obtain_passwords(home, [*ours, DAGSTER])
    with _maintenance() as admin:
        admin.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        roles.ensure_groups(admin, (sql_directory() / "roles.sql").read_bytes())
        for role in roles.GROUPS:
            login, password = login_of(database_url(role))
            roles.ensure_login(admin, login, password, reset=is_embedded())
            roles.ensure_membership(admin, role, login)
        roles.ensure_database(admin, database_name(), roles.OWNER)
        roles.ensure_database_grants(admin, database_name())
        _set_up_dagster(admin)
        if is_embedded():
            admin.execute("REVOKE ALL ON DATABASE postgres FROM PUBLIC")
    migrate(database_url(Role.ADMIN))
    for role in roles.GROUPS:
        _try_login(database_url(role))


def _set_up_dagster(admin: psycopg.Connection) -> None:
    login, password = login_of(dagster_url())
    if login != DAGSTER:
        return  # given by the environment: somebody else's to create
    roles.ensure_login(admin, login, password, reset=is_embedded())
    roles.ensure_database(admin, DAGSTER, login)


def _maintenance() -> psycopg.Connection:
    """The administrator in a database that exists before ours does."""
    admin = database_url(Role.ADMIN)
    try:
        return connect_to(with_database(admin, "postgres"), autocommit=True)
    except WarehouseConnectionError:
        return connect_to(admin, autocommit=True)


def _try_login(url: str) -> None:
    try:
        connect_to(url).close()
    except WarehouseConnectionError as error:
        raise WarehouseConnectionError(
            f"{error}. If another home set this server up, copy its secrets/database.json here, give the "
            f"role's URL in {URL_VARIABLE}_<ROLE>, or let the administrator drop the login"
        ) from None

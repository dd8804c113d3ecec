"""Connections to the warehouse by role, and the URLs they are made from.

The embedded server is the default. `PRIVACY_PLATFORM_DATABASE_URL` (the URL of an administrator, naming the
database to use) replaces it, and `PRIVACY_PLATFORM_DATABASE_URL_<ROLE>` replaces the URL of one role, as
workers of a cluster need that have no home. Nothing here starts a server: `migrations.ensure_warehouse` does.

A URL holds a password: it is returned where asked for, and never in a message, a log or a `repr`.
"""

import logging
import os
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from privacy_platform import settings
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.warehouse.credentials import read_credentials
from privacy_platform.warehouse.embedded import PORT, SUPERUSER, socket_directory

if TYPE_CHECKING:
    from adbc_driver_postgresql import dbapi

URL_VARIABLE = "PRIVACY_PLATFORM_DATABASE_URL"
DATABASE = "privacy_platform"
DAGSTER = "dagster"
# Keepalives of TCP: seconds of silence before the first, seconds between them, how many unanswered end a session.
_IDLE, _INTERVAL, _PROBES = 30, 10, 3
_NO_WAIT = "-c synchronous_commit=off"
# What it says of a COPY that failed quotes the server, and so the row.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


class Role(StrEnum):
    """Who connects; decides what the connection may read and write."""

    ADMIN = "admin"
    PIPELINE = "pipeline"
    COMPLIANCE = "compliance"
    ANALYST = "analyst"
    LINKAGE = "linkage"
    DASHBOARD = "dashboard"


class WarehouseConnectionError(PrivacyPlatformError):
    """The warehouse cannot be reached, or a database URL is not usable."""


def database_url(role: Role = Role.PIPELINE) -> str:
    """The URL `postgresql://…` of the warehouse for `role`, with its password.

    Reads the environment and the file of passwords only, so it works in any process of the same user.

    Raises:
        WarehouseConnectionError: a given URL is malformed, or this home was never set up.
    """
    given = given_url(role)
    if given is not None:
        return given
    admin = given_url(Role.ADMIN)
    return _own_url(admin, SUPERUSER if role is Role.ADMIN else login_name(role), database_name())


def dagster_url() -> str:
    """The URL of the database of Dagster's own storage, fit for `dagster-postgres` (SQLAlchemy, psycopg2)."""
    given = _environment(f"{URL_VARIABLE}_{DAGSTER.upper()}")
    return given if given is not None else _own_url(given_url(Role.ADMIN), DAGSTER, DAGSTER)


def given_url(role: Role) -> str | None:
    """The URL that the environment gives for `role`, or None."""
    specific = _environment(f"{URL_VARIABLE}_{role.value.upper()}")
    return _environment(URL_VARIABLE) if role is Role.ADMIN and specific is None else specific


def is_embedded() -> bool:
    """True when the warehouse is the embedded server."""
    return given_url(Role.ADMIN) is None


def database_name() -> str:
    """The database of the warehouse: what the administrator's URL names, else `privacy_platform`."""
    admin = given_url(Role.ADMIN)
    return (unquote(urlsplit(admin).path.strip("/")) if admin else "") or DATABASE


def login_name(role: Role) -> str:
    """The login that the platform creates for `role`."""
    return f"privacy_platform_{role.value}"


def login_of(url: str) -> tuple[str, str]:
    """The login and the password in `url`."""
    parts = urlsplit(url)
    return unquote(parts.username or ""), unquote(parts.password or "")


def with_database(url: str, database: str) -> str:
    """`url` with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(database, safe='')}"))


def connect(
    role: Role = Role.PIPELINE,
    *,
    autocommit: bool = False,
    application_name: str = "privacy_platform",
    connect_timeout: float = 10.0,
    statement_timeout: float = 1800.0,
    lock_timeout: float = 30.0,
    wait_for_disk: bool = True,
) -> psycopg.Connection:
    """A connection for `role`, its time zone UTC; all time-outs are in seconds.

    Without `wait_for_disk`, what it commits is on disk no later than what another connection commits afterwards that
    waits, such as the publication that all work of tasks is for.

    Raises:
        WarehouseConnectionError: no server answers or it refuses the login.
    """
    return connect_to(
        database_url(role),
        autocommit=autocommit,
        application_name=application_name,
        connect_timeout=connect_timeout,
        statement_timeout=statement_timeout,
        lock_timeout=lock_timeout,
        wait_for_disk=wait_for_disk,
    )


def connect_to(
    url: str,
    *,
    autocommit: bool = False,
    application_name: str = "privacy_platform",
    connect_timeout: float = 10.0,
    statement_timeout: float = 1800.0,
    lock_timeout: float = 30.0,
    wait_for_disk: bool = True,
) -> psycopg.Connection:
    """`connect` to a given URL."""
    more_options = "" if wait_for_disk else _NO_WAIT
    session = _session_url(url, application_name, connect_timeout, statement_timeout, lock_timeout, more_options)
    try:
        return psycopg.connect(session, autocommit=autocommit)
    except psycopg.Error as error:
        raise _unreachable(url, str(error)) from None


def adbc(
    role: Role = Role.PIPELINE,
    *,
    application_name: str = "privacy_platform",
    connect_timeout: float = 10.0,
    statement_timeout: float = 1800.0,
    lock_timeout: float = 30.0,
) -> "dbapi.Connection":
    """An ADBC connection for `role`, for rows that come or go as Arrow data; time-outs in seconds.

    It never waits for the disk, see `connect`.

    Raises:
        WarehouseConnectionError: no server answers or it refuses the login.
    """
    # Imports pandas and polars, over a second: not for those who only want rows.
    from adbc_driver_manager import Error as AdbcError

    url = database_url(role)
    session = _session_url(url, application_name, connect_timeout, statement_timeout, lock_timeout, _NO_WAIT)
    try:
        return _server(session).adbc_clone()
    except AdbcError as error:
        raise _unreachable(url, str(error)) from None


@lru_cache(maxsize=16)
def _server(session: str) -> "dbapi.Connection":
    """What ADBC knows of a server, to make connections of: a connection that is closed and lends its knowledge.

    The driver reads the whole catalogue of columns and types to begin with, which takes it longer the more partitions
    there are: once a process, not once a task. The types of our columns are PostgreSQL's own, so it does not get old.
    """
    from adbc_driver_postgresql import dbapi

    known = dbapi.connect(session)
    known.adbc_connection.close()
    return known


def _own_url(admin: str | None, login: str, database: str) -> str:
    home = settings.home()
    password = read_credentials(home).passwords.get(login)
    if password is None:
        raise WarehouseConnectionError(
            f"no password for the database login {login} in {home}: the warehouse was not set up from here; "
            f"run a command that does (privacy-platform up), or set {URL_VARIABLE}"
        )
    user = f"{quote(login, safe='')}:{quote(password, safe='')}"
    path = f"/{quote(database, safe='')}"
    if admin is None:
        # The port is said because PGPORT of the environment would apply otherwise.
        return f"postgresql://{user}@{path}?host={quote(str(socket_directory(home)), safe='/')}&port={PORT}"
    parts = urlsplit(admin)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}", path=path))


def _environment(variable: str) -> str | None:
    """The URL in `variable`, without SQLAlchemy's `+driver`; refused without ever quoting it."""
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    scheme, separator, rest = value.partition("://")
    usable = bool(separator) and scheme.split("+")[0] in ("postgresql", "postgres")
    url = f"postgresql://{rest}"
    try:
        conninfo_to_dict(url)
        # In the query they would silently outdo the ones in front of the host, and other roles' with them.
        misplaced = {"user", "password", "dbname"} & {name for name, _ in parse_qsl(urlsplit(url).query)}
        usable = usable and bool(login_of(url)[0]) and not misplaced
    except (psycopg.Error, ValueError):
        usable = False
    if not usable:
        raise WarehouseConnectionError(
            f"{variable} is no PostgreSQL URL: write postgresql://login:password@host:port/database, "
            "special characters percent-encoded, login and password in front of the host"
        )
    return url


def _session_url(
    url: str,
    application_name: str,
    connect_timeout: float,
    statement_timeout: float,
    lock_timeout: float,
    more_options: str = "",
) -> str:
    parts = urlsplit(url)
    parameters: Mapping[str, str] = dict(parse_qsl(parts.query, keep_blank_values=True))
    options = (
        f"-c statement_timeout={round(statement_timeout * 1000)} "
        f"-c lock_timeout={round(lock_timeout * 1000)} -c TimeZone=UTC "
        # The session of a killed client lets go of its locks at once, also while it waits for one.
        "-c client_connection_check_interval=500 "
        # That of a machine that has gone without a word, a cluster's worker, within a minute instead of two hours.
        f"-c tcp_keepalives_idle={_IDLE} -c tcp_keepalives_interval={_INTERVAL} -c tcp_keepalives_count={_PROBES}"
    )
    session = {
        **parameters,
        "options": f"{parameters.get('options', '')} {options} {more_options}".strip(),
        "application_name": application_name,
        "connect_timeout": str(max(2, round(connect_timeout))),
        # And a server's that has gone, the other way round.
        "keepalives_idle": str(_IDLE),
        "keepalives_interval": str(_INTERVAL),
        "keepalives_count": str(_PROBES),
    }
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='/')}" for name, value in session.items())
    return urlunsplit(parts._replace(query=query))


def _unreachable(url: str, reason: str) -> WarehouseConnectionError:
    login, password = login_of(url)
    lines = [line.strip() for line in reason.splitlines() if line.strip()] or ["no reason given"]
    said = next((line for line in lines if "FATAL" in line), lines[0])
    if password:
        said = said.replace(quote(password, safe=""), "***").replace(password, "***")
    mend = (
        "start it (privacy-platform up)"
        if is_embedded()
        else f"check {URL_VARIABLE} and that the server is reachable from here"
    )
    return WarehouseConnectionError(f"cannot connect to the warehouse as {login}: {said}; {mend}")

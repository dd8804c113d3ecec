"""The roles of the server: groups that carry the grants (`sql/roles.sql`) and one login for each of them.

A login belongs to its group. The pipeline's login also takes on its group at connecting (`SET role`), so that
whatever it creates is owned by the group and any login of the group can publish over it; the audit log still
names the login itself (`session_user`). Passwords go to the server as SCRAM verifiers, never in clear.
"""

from collections.abc import Mapping

import psycopg
from psycopg import sql

from privacy_platform.warehouse.connection import Role

OWNER = "privacy_platform_owner"
GROUPS: Mapping[Role, str] = {
    Role.PIPELINE: "privacy_pipeline",
    Role.COMPLIANCE: "privacy_compliance",
    Role.ANALYST: "privacy_analyst",
    Role.LINKAGE: "privacy_linkage",
    Role.DASHBOARD: "privacy_dashboard",
}


def ensure_groups(admin: psycopg.Connection, statements: bytes) -> None:
    """Create the groups that do not exist, by running the text of `sql/roles.sql`."""
    admin.execute(statements)


def ensure_login(admin: psycopg.Connection, login: str, password: str, *, reset: bool) -> None:
    """Create `login` with `password` when missing; set the password of an existing one only with `reset`."""
    exists = admin.execute("SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", [login]).fetchone() is not None
    if exists and not reset:
        return
    verifier = admin.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    admin.execute(
        sql.SQL("{verb} ROLE {login} LOGIN PASSWORD {verifier}").format(
            verb=sql.SQL("ALTER" if exists else "CREATE"),
            login=sql.Identifier(login),
            verifier=sql.Literal(verifier),
        )
    )


def ensure_membership(admin: psycopg.Connection, role: Role, login: str) -> None:
    """Make `login` a member of the group of `role`."""
    group = sql.Identifier(GROUPS[role])
    admin.execute(sql.SQL("GRANT {} TO {}").format(group, sql.Identifier(login)))
    if role is Role.PIPELINE:
        admin.execute(sql.SQL("ALTER ROLE {} SET role TO {}").format(sql.Identifier(login), group))


def ensure_database(admin: psycopg.Connection, database: str, owner: str) -> None:
    """Create `database` for `owner`, closed to PUBLIC, when missing. `admin` must be in autocommit."""
    name = sql.Identifier(database)
    known = admin.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [database]).fetchone()
    if known is None:
        # Only a member may hand a database over; who made the role may become one (PostgreSQL 16 and later).
        superuser = admin.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
        if superuser != (True,):
            admin.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(
                name, sql.Identifier(owner)
            )
        )
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))


def ensure_database_grants(admin: psycopg.Connection, database: str) -> None:
    """Let the owner create the schemas in `database` and every group connect to it."""
    name = sql.Identifier(database)
    groups = sql.SQL(", ").join(sql.Identifier(group) for group in GROUPS.values())
    admin.execute(sql.SQL("GRANT CREATE, CONNECT ON DATABASE {} TO {}").format(name, sql.Identifier(OWNER)))
    admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, groups))
    admin.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(name, sql.Identifier(GROUPS[Role.PIPELINE])))

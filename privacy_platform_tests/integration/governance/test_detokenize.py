"""Reversing tokens: whose they are, for compliance alone, and in the audit log before anybody learns it."""

import hashlib
from collections.abc import Iterator
from contextlib import closing

import polars as pl
import psycopg
import pytest

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.governance.audit import AuditAction, RecordedEntry, entries
from privacy_platform.governance.detokenize import MOST_TOKENS, DetokenizeError, detokenize
from privacy_platform.vault.keyring import Keyring, KeyringError, Purpose, new_keyring
from privacy_platform.vault.sealing import SealError
from privacy_platform.vault.subjects import subject_keys
from privacy_platform.warehouse.connection import Role, adbc, connect

pytestmark = pytest.mark.usefixtures("warehouse")

FIRST = new_keyring()
KEYRING = FIRST.rotated()
REASON = "Court order 17 C 4711/26"


def token_of(subject: str) -> str:
    return f"tok_{hashlib.sha256(subject.encode()).hexdigest()[:32]}"


def register(keyring: Keyring, *subjects: str) -> list[str]:
    """Data subjects in the vault, as a landing under that keyring would add them; their tokens."""
    tokens = [token_of(subject) for subject in subjects]
    with closing(adbc(Role.PIPELINE)) as connection:
        subject_keys(
            connection,
            pl.DataFrame({"user_token": tokens, "subject_id": subjects}),
            sealing_keys={version: keyring.secret(Purpose.SEALING, version) for version in keyring.masters},
            identity_key=keyring.secret(Purpose.IDENTITY),
            current=keyring.current,
        )
    return tokens


@pytest.fixture
def officer() -> Iterator[psycopg.Connection]:
    with connect(Role.COMPLIANCE, autocommit=True) as connection:
        yield connection


def recorded() -> RecordedEntry | None:
    """The latest entry about reversing tokens, as everybody sees it."""
    with connect(Role.COMPLIANCE) as connection:
        return next(iter(entries(connection, limit=1, action=AuditAction.DETOKENIZE)), None)


def test_tokens_of_every_key_version_are_reversed_and_recorded(officer: psycopg.Connection) -> None:
    old, new = register(FIRST, "ann@example.org"), register(KEYRING, "Zoë 北京")
    assert detokenize(officer, KEYRING, [*new, *old, *new], reason=f" {REASON} ") == {
        new[0]: "Zoë 北京",
        old[0]: "ann@example.org",
    }
    entry = recorded()
    assert entry
    assert (entry.outcome, entry.actor) == ("succeeded", "privacy_platform_compliance")
    assert entry.details == {"reason": REASON, "asked": 2, "found": 2, "tokens": [*new, *old]}


def test_what_the_vault_does_not_hold_is_said(officer: psycopg.Connection) -> None:
    [kept, erased] = register(KEYRING, "kept", "erased")
    with connect(Role.ADMIN) as admin:
        admin.execute("DELETE FROM vault.subjects WHERE user_token = %s", [erased])
    never = token_of("never")
    assert detokenize(officer, KEYRING, [never, kept, erased], reason=REASON) == {
        never: None,
        kept: "kept",
        erased: None,
    }
    entry = recorded()
    assert entry
    assert entry.details["found"] == 1
    assert detokenize(officer, KEYRING, [never], reason=REASON) == {never: None}


@pytest.mark.parametrize("role", [Role.ANALYST, Role.DASHBOARD, Role.PIPELINE])
def test_other_roles_are_refused(role: Role) -> None:
    tokens = register(KEYRING, "somebody")
    before = recorded()
    with connect(role) as connection, pytest.raises(DetokenizeError, match="privacy_compliance"):
        detokenize(connection, KEYRING, tokens, reason=REASON)
    assert recorded() == before


@pytest.mark.parametrize("role", [Role.ANALYST, Role.DASHBOARD])
def test_the_database_itself_refuses_those_who_only_read(role: Role) -> None:
    for statement in ("SELECT * FROM vault.subjects", "SELECT * FROM governance.privacy_audit_log"):
        with connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@pytest.mark.parametrize(
    ("tokens", "reason", "message"),
    [
        ([token_of("x")], "", "Give a reason"),
        ([token_of("x")], " \t", "Give a reason"),
        ([token_of("x")], "a\nb", "one line"),
        ([token_of("x")], "a" * 501, "one line"),
        ([token_of("x")], "asked by ann@example.org", r"personal data \(email\)"),
        ([], REASON, "from one to"),
        ([token_of(str(n)) for n in range(MOST_TOKENS + 1)], REASON, "from one to"),
        ([token_of("x"), "ann@example.org"], REASON, "Argument 2 is not a token"),
        (["tok_" + "A" * 32], REASON, "Argument 1 is not a token"),
    ],
    ids=range(9),
)
def test_refused_without_a_look(officer: psycopg.Connection, tokens: list[str], reason: str, message: str) -> None:
    before = recorded()
    with pytest.raises(DetokenizeError, match=message) as refused:
        detokenize(officer, KEYRING, tokens, reason=reason)
    assert "ann@" not in str(refused.value)
    assert recorded() == before


def test_an_id_that_does_not_open_is_an_attempt_on_record(officer: psycopg.Connection) -> None:
    [token] = register(KEYRING, "secret person")
    wrong = new_keyring().rotated()
    refused: list[tuple[Keyring, type[PrivacyPlatformError]]] = [(wrong, SealError), (FIRST, KeyringError)]
    for keyring, error in refused:
        with pytest.raises(error) as caught:
            detokenize(officer, keyring, [token], reason=REASON)
        assert "secret person" not in str(caught.value)
        entry = recorded()
        assert entry
        assert entry.outcome == "failed"
        assert entry.details == {"reason": REASON, "asked": 1, "tokens": [token]}
    with connect(Role.ADMIN) as admin:
        admin.execute("UPDATE vault.subjects SET sealed_id = set_byte(sealed_id, 30, 0) WHERE user_token = %s", [token])
        admin.execute("UPDATE vault.subjects SET sealed_id = set_byte(sealed_id, 31, 0) WHERE user_token = %s", [token])
    with pytest.raises(SealError):
        detokenize(officer, KEYRING, [token], reason=REASON)


def test_nothing_is_told_when_it_cannot_be_recorded(officer: psycopg.Connection) -> None:
    [token] = register(KEYRING, "unrecorded")
    with connect(Role.ADMIN, autocommit=True) as admin:
        admin.execute("REVOKE INSERT (action) ON governance.privacy_audit_log FROM privacy_compliance")
        try:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                detokenize(officer, KEYRING, [token], reason=REASON)
        finally:
            admin.execute("GRANT INSERT (action) ON governance.privacy_audit_log TO privacy_compliance")
    assert detokenize(officer, KEYRING, [token], reason=REASON) == {token: "unrecorded"}


def test_the_answer_never_comes_before_the_commit() -> None:
    [token] = register(KEYRING, "too early")
    with connect(Role.COMPLIANCE) as connection:
        connection.execute("SELECT 1")
        with pytest.raises(DetokenizeError, match="outside of a transaction"):
            detokenize(connection, KEYRING, [token], reason=REASON)

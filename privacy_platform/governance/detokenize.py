"""Reversing tokens: for compliance only, with a reason, and never without a trace.

The audit entry and the look into the vault are one transaction that has been committed when the ids are returned. The
entry says who asked, why, and for which tokens; it does not hold an id.
"""

import re
from collections.abc import Sequence

import polars as pl
from psycopg import Connection
from psycopg.pq import TransactionStatus

from privacy_platform.detection import patterns
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.governance.audit import AuditAction, AuditEntry, AuditOutcome, record
from privacy_platform.vault.keyring import Keyring
from privacy_platform.vault.subjects import subject_ids

__all__ = ["MOST_TOKENS", "DetokenizeError", "detokenize"]

MOST_TOKENS = 1000
_MOST_CHARACTERS = 500
_TOKEN = re.compile(r"tok_[0-9a-f]{32}")


class DetokenizeError(PrivacyPlatformError):
    """The tokens are not reversed: no reason, not a token, or not the role for it. Never names a value."""


def detokenize(
    connection: Connection, keyring: Keyring, tokens: Sequence[str], *, reason: str
) -> dict[str, str | None]:
    """Whose tokens these are.

    Args:
        connection: of the compliance role, outside of a transaction.
        keyring: the keyring that the vault was filled under.
        tokens: at most 1,000.
        reason: why; goes into the audit log, which nobody can shorten, so it must not name the data subject.

    Returns:
        Token → the data subject's id, in the order given; None where the vault does not hold the token: it was never
        given out, or its data subject was erased.

    Raises:
        DetokenizeError: no reason, personal data in it, something that is no token, or another role.
        SealError: an id does not open; the attempt is in the audit log.
    """
    asked = list(dict.fromkeys(tokens))
    _check_words(asked, reason)
    details = {"reason": reason.strip(), "asked": len(asked), "tokens": asked}
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise DetokenizeError("Reverse tokens outside of a transaction: the audit entry is committed first.")
    with connection.transaction():
        _check_role(connection)
        found = _opened(connection, asked, keyring)
        said = {"found": len(found)} if isinstance(found, dict) else {}
        outcome = AuditOutcome.SUCCEEDED if isinstance(found, dict) else AuditOutcome.FAILED
        record(connection, AuditEntry(AuditAction.DETOKENIZE, outcome, details=details | said))
    if not isinstance(found, dict):
        raise found
    return {token: found.get(token) for token in asked}


def _opened(connection: Connection, tokens: Sequence[str], keyring: Keyring) -> dict[str, str] | PrivacyPlatformError:
    """The ids, or why they do not open; a failed attempt is recorded as well."""
    try:
        return subject_ids(connection, tokens, keyring)
    except PrivacyPlatformError as error:
        return error


def _check_words(tokens: Sequence[str], reason: str) -> None:
    if not 0 < len(tokens) <= MOST_TOKENS:
        raise DetokenizeError(f"Give from one to {MOST_TOKENS:,} tokens at a time.")
    wrong = next((n for n, token in enumerate(tokens, 1) if not _TOKEN.fullmatch(token)), None)
    if wrong:
        raise DetokenizeError(f"Argument {wrong} is not a token: write tok_ and 32 hexadecimal digits.")
    if not reason.strip():
        raise DetokenizeError("Give a reason: it goes into the audit log.")
    if len(reason) > _MOST_CHARACTERS or not reason.isprintable():
        raise DetokenizeError(f"Write the reason in one line of at most {_MOST_CHARACTERS} characters.")
    personal = patterns.find(pl.Series([reason]))
    if personal:
        raise DetokenizeError(
            f"The reason holds personal data ({', '.join(personal)}), and the audit log keeps it for good: "
            "give a case number instead."
        )


def _check_role(connection: Connection) -> None:
    # The pipeline reads the vault too, for its runs; reversing tokens is not its business.
    row = connection.execute("SELECT pg_has_role(session_user, 'privacy_compliance', 'USAGE')").fetchone()
    if row != (True,):
        raise DetokenizeError("Only members of privacy_compliance reverse tokens: connect as the role `compliance`.")

"""The audit log: entries written inside the caller's transaction, and a verification that trusts no trigger.

The database numbers, dates, signs (login of the session) and chains each entry; here is what a writer may
say, and an independent computation of the chain. What the chain shows: entries changed, removed (the last
ones too) or reordered after they were written, by whoever could. What it cannot show by itself: an owner of
the database who rewrites all entries from some point on together with the head. Against that, keep the `head`
of a verification somewhere else and give it back as `anchor`.

Writers wait for one another from `record` until their commit, so record last in a transaction, and keep what
follows short. Under REPEATABLE READ a concurrent writer makes `record` fail with a serialization error.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row, tuple_row
from psycopg.types.json import Jsonb

from privacy_platform.errors import PrivacyPlatformError

GENESIS = bytes(32)
_DOMAIN = b"privacy_platform.audit.v1|"
_BATCH = 5000
# One statement, hence one snapshot for the entries and the head: entries appended meanwhile are in neither.
_SCAN = """
SELECT (SELECT h.seq FROM governance.audit_head h), (SELECT h.hash FROM governance.audit_head h), l.seq,
       to_char(l.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       l.actor, l.action, l.dataset, l.subject_table, l.run_id, l.outcome, l.details::text,
       l.prev_hash, l.hash
FROM governance.privacy_audit_log l ORDER BY l.seq
"""


class AuditAction(StrEnum):
    """What can be done to personal data, or to the warehouse that holds it."""

    PUBLISH = "publish"
    QUARANTINE = "quarantine"
    KEY_USE = "key_use"
    RESTRICTED_READ = "restricted_read"
    DETOKENIZE = "detokenize"
    CHECK_FAILED = "check_failed"
    EXPORT = "export"
    MIGRATE = "migrate"
    KEY_ROTATE = "key_rotate"
    ERASE = "erase"
    BUDGET_SPEND = "budget_spend"


class AuditOutcome(StrEnum):
    """How it ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True)
class AuditEntry:
    """What a writer says. `details` holds counts and names, never values of records, keys or passwords."""

    action: AuditAction
    outcome: AuditOutcome = AuditOutcome.SUCCEEDED
    dataset: str | None = None
    subject_table: str | None = None
    run_id: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedEntry:
    """An entry as the log holds it."""

    seq: int
    at: datetime
    actor: str
    action: str
    dataset: str | None
    subject_table: str | None
    run_id: str | None
    outcome: str
    details: Mapping[str, object]
    prev_hash: bytes
    hash: bytes


class AuditHead(NamedTuple):
    """Number and hash of an entry: enough to prove later that the log up to it is the same."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        """`HASH@ROW`, as `parse` reads it."""
        return f"{self.hash.hex()}@{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "AuditHead":
        """The head that `text` names as `HASH@ROW`: 64 hexadecimal digits and the number of the entry.

        Raises:
            AuditHeadError: it names none.
        """
        found = re.fullmatch(r"([0-9a-f]{64})@([1-9][0-9]{0,17})", text.strip())
        if found is None:
            raise AuditHeadError("A head of the audit log is HASH@ROW, as `audit verify` prints it, or a file of such.")
        return cls(int(found[2]), bytes.fromhex(found[1]))


def kept_head(path: Path) -> AuditHead | None:
    """The latest head kept in a file of heads, one a line; None when it is empty.

    Raises:
        AuditHeadError: the last line is not a head.
    """
    lines = path.read_text(encoding="utf-8").split()
    return AuditHead.parse(lines[-1]) if lines else None


def keep_head(path: Path, head: AuditHead) -> None:
    """Add a head to a file of heads."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{head}\n")


class AuditHeadError(PrivacyPlatformError):
    """What was given is not a head of the audit log."""


class AuditProblem(StrEnum):
    """What a verification can find."""

    CHANGED = "changed"
    """The entry does not have the hash of what it says."""
    MISSING = "missing"
    """The entry was removed."""
    UNLINKED = "unlinked"
    """The entry does not continue the one before: one of the two was moved or replaced."""
    HEAD = "head"
    """The head of the log is not its last entry: the head was changed, or an entry came in by another way."""
    ANCHOR = "anchor"
    """The entry is not the one that the anchor remembers: the log was rewritten."""


@dataclass(frozen=True)
class AuditVerification:
    """The result of `verify`: `problem` is the first found, at entry `seq`; None when the log is whole."""

    entries: int
    head: AuditHead
    problem: AuditProblem | None = None
    seq: int | None = None

    @property
    def ok(self) -> bool:
        """True when nothing was found."""
        return self.problem is None


def record(connection: psycopg.Connection, entry: AuditEntry) -> AuditHead:
    """Append `entry` in the caller's transaction; it is in the log if and only if that commits."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(
            "INSERT INTO governance.privacy_audit_log "
            "(action, dataset, subject_table, run_id, outcome, details) VALUES "
            "(%s, %s, %s, %s, %s, %s) RETURNING seq, hash",
            [
                entry.action.value,
                entry.dataset,
                entry.subject_table,
                entry.run_id,
                entry.outcome.value,
                Jsonb(dict(entry.details)),
            ],
        ).fetchone()
    assert row is not None  # noqa: S101 - INSERT … RETURNING gives a row or raises
    return AuditHead(*row)


def entries(
    connection: psycopg.Connection,
    *,
    limit: int = 100,
    before: int | None = None,
    action: AuditAction | None = None,
    dataset: str | None = None,
    run_id: str | None = None,
) -> Sequence[RecordedEntry]:
    """The latest entries, latest first: at most `limit`, older than entry `before`, only those asked for."""
    with connection.cursor(row_factory=class_row(RecordedEntry)) as cursor:
        return cursor.execute(
            """
            SELECT seq, at, actor, action, dataset, subject_table, run_id, outcome, details, prev_hash, hash
            FROM governance.privacy_audit_log
            WHERE (%(before)s::bigint IS NULL OR seq < %(before)s)
              AND (%(action)s::text IS NULL OR action = %(action)s)
              AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s)
              AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
            ORDER BY seq DESC LIMIT %(limit)s
            """,
            {
                "before": before,
                "action": action.value if action else None,
                "dataset": dataset,
                "run_id": run_id,
                "limit": limit,
            },
        ).fetchall()


def rows_on_record(connection: psycopg.Connection, subject_table: str) -> tuple[int, int] | None:
    """Rows of a table after its last release, and rows erased from it since; None when no release has said so."""
    row = connection.execute(
        """
        WITH released AS (
            SELECT seq, (details ->> 'table_rows')::bigint AS rows FROM governance.privacy_audit_log
            WHERE subject_table = %(table)s AND action = 'publish' ORDER BY seq DESC LIMIT 1
        )
        SELECT r.rows, (
            SELECT coalesce(sum((e.details ->> 'rows')::bigint), 0)::bigint FROM governance.privacy_audit_log e
            WHERE e.subject_table = %(table)s AND e.action = 'erase' AND e.outcome = 'succeeded' AND e.seq > r.seq
        ) FROM released r
        """,
        {"table": subject_table},
    ).fetchone()
    return None if row is None or row[0] is None else (int(row[0]), int(row[1]))


def last_publication(connection: psycopg.Connection, subject_table: str) -> int | None:
    """Number of the entry of a table's last publication; None when there was none."""
    row = connection.execute(
        "SELECT seq FROM governance.privacy_audit_log WHERE subject_table = %s AND action = 'publish' "
        "ORDER BY seq DESC LIMIT 1",
        [subject_table],
    ).fetchone()
    return None if row is None else int(row[0])


def last_publications(connection: psycopg.Connection, subject_table: str) -> dict[str, int]:
    """Partition (its suffix) → number of the entry of its last publication: what tells one release from another."""
    rows = connection.execute(
        """
        SELECT partition, max(l.seq)
        FROM governance.privacy_audit_log l, jsonb_array_elements_text(l.details -> 'partitions') AS partition
        WHERE l.subject_table = %s AND l.action = 'publish' GROUP BY partition
        """,
        [subject_table],
    ).fetchall()
    return {str(partition): int(seq) for partition, seq in rows}


def verify(connection: psycopg.Connection, *, anchor: AuditHead | None = None) -> AuditVerification:
    """Recompute the chain of the whole log and name the first entry that is not as it was written.

    Streams the log in bounded memory and computes every hash here, from what the columns say.

    Args:
        connection: A role that reads governance (compliance, pipeline, admin).
        anchor: The head of an earlier verification, kept outside the database.
    """
    with connection.transaction(), connection.cursor("audit_verify", row_factory=tuple_row) as cursor:
        cursor.itersize = _BATCH
        cursor.execute(_SCAN)
        return _walk(cursor, anchor)


_Row = tuple[
    int | None,
    bytes | None,
    int,
    str | None,
    str,
    str,
    str | None,
    str | None,
    str | None,
    str,
    str,
    bytes,
    bytes,
]


def _walk(rows: Iterator[_Row], anchor: AuditHead | None) -> AuditVerification:
    last = AuditHead(0, GENESIS)
    head: AuditHead | None = None
    for head_seq, head_hash, seq, *columns, prev_hash, stored in rows:
        head = AuditHead(head_seq, head_hash) if head_seq is not None and head_hash is not None else None
        problem, at = _judge(last, anchor, seq, columns, prev_hash, stored)
        if problem is not None:
            return AuditVerification(entries=last.seq, head=last, problem=problem, seq=at)
        last = AuditHead(seq, stored)
    problem, at = _judge_end(last, head, anchor)
    return AuditVerification(entries=last.seq, head=last, problem=problem, seq=at)


def _judge(
    last: AuditHead,
    anchor: AuditHead | None,
    seq: int,
    columns: Sequence[str | None],
    prev_hash: bytes,
    stored: bytes,
) -> tuple[AuditProblem | None, int | None]:
    expected = last.seq + 1
    if seq != expected:
        # Numbers ascend and are unique: a higher one means a gap; a lower one (zero, negative) was put there.
        return (AuditProblem.MISSING, expected) if seq > expected else (AuditProblem.UNLINKED, seq)
    if prev_hash != last.hash:
        return AuditProblem.UNLINKED, seq
    if entry_hash(seq, columns, prev_hash) != stored:
        return AuditProblem.CHANGED, seq
    if anchor is not None and anchor.seq == seq and anchor.hash != stored:
        return AuditProblem.ANCHOR, seq
    return None, None


def _judge_end(
    last: AuditHead, head: AuditHead | None, anchor: AuditHead | None
) -> tuple[AuditProblem | None, int | None]:
    if last.seq == 0:
        # The migration that makes the log is its first entry: an empty log was emptied.
        return AuditProblem.MISSING, 1
    if head is None:
        return AuditProblem.HEAD, last.seq
    if head.seq > last.seq:
        return AuditProblem.MISSING, last.seq + 1
    if head != last:
        return AuditProblem.HEAD, last.seq
    if anchor is not None and anchor.seq > last.seq:
        return AuditProblem.MISSING, last.seq + 1
    return None, None


def entry_hash(seq: int, columns: Sequence[str | None], prev_hash: bytes) -> bytes:
    """The hash of an entry; `columns` are the texts of at, actor, action, …, details, in the table's order.

    Each field is `-` when null, else its length in UTF-8 bytes, `:` and its bytes: no two entries read alike.
    """
    digest = hashlib.sha256(_DOMAIN)
    for column in (str(seq), *columns, prev_hash.hex()):
        if column is None:
            digest.update(b"-")
        else:
            data = column.encode()
            digest.update(b"%d:%s" % (len(data), data))
    return digest.digest()

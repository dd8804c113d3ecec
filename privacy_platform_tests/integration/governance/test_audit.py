import threading
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from privacy_platform.governance import lineage
from privacy_platform.governance.audit import (
    AuditAction,
    AuditEntry,
    AuditHead,
    AuditOutcome,
    AuditProblem,
    entries,
    record,
    verify,
)
from privacy_platform.warehouse.connection import Role, connect

pytestmark = pytest.mark.usefixtures("warehouse")
TABLE = "governance.privacy_audit_log"


@pytest.fixture
def log() -> Iterator[psycopg.Connection]:
    """The owner of the database in a transaction that is never committed, ten new entries in the log."""
    with connect(Role.ADMIN) as connection:
        for number in range(10):
            record(connection, AuditEntry(AuditAction.PUBLISH, dataset=f"d{number}", details={"rows": number}))
        yield connection
        connection.rollback()


def tamper(connection: psycopg.Connection, statement: str) -> None:
    connection.execute(f"ALTER TABLE {TABLE} DISABLE TRIGGER ALL")
    connection.execute(statement)


def last(connection: psycopg.Connection) -> int:
    row = connection.execute(f"SELECT max(seq) FROM {TABLE}").fetchone()
    assert row is not None
    return int(row[0])


def test_an_entry_says_who_when_and_what() -> None:
    entry = AuditEntry(
        AuditAction.KEY_USE,
        AuditOutcome.REFUSED,
        dataset="users",
        subject_table="raw.raw_users",
        run_id="r-1",
        details={
            "n": 1.50,
            "text": "Zoë 'quoted' \" 100 % | - 3:abc",
            "none": None,
            "deep": {"b": [1, 2], "a": True},
        },
    )
    with connect(Role.COMPLIANCE) as connection:
        head = record(connection, entry)
        found = entries(connection, limit=1)[0]
        assert (found.seq, found.hash) == head
        assert found.actor == "privacy_platform_compliance"
        assert found.at.utcoffset() is not None
        assert (found.action, found.outcome, found.dataset) == ("key_use", "refused", "users")
        assert found.details == entry.details
        assert verify(connection).ok
        connection.rollback()
        assert not entries(connection, run_id="r-1")
        assert verify(connection).ok


def test_the_database_computes_the_same_hash(log: psycopg.Connection) -> None:
    assert log.execute(f"SELECT count(*) FROM {TABLE} l WHERE governance.audit_hash(l) <> l.hash").fetchone() == (0,)


@pytest.mark.parametrize("role", [Role.PIPELINE, Role.COMPLIANCE])
def test_a_writer_cannot_forge_or_change(role: Role) -> None:
    for statement in (
        f"INSERT INTO {TABLE} (action, outcome, actor) VALUES ('publish', 'succeeded', 'somebody')",
        f"INSERT INTO {TABLE} (action, outcome, seq) VALUES ('publish', 'succeeded', 1)",
        f"INSERT INTO {TABLE} (action, outcome, at) VALUES ('publish', 'succeeded', now())",
        f"UPDATE {TABLE} SET outcome = 'failed'",
        f"DELETE FROM {TABLE}",
        f"TRUNCATE {TABLE}",
        f"ALTER TABLE {TABLE} DISABLE TRIGGER ALL",
        "UPDATE governance.audit_head SET seq = 0",
        "SELECT FROM governance.audit_head FOR UPDATE",
    ):
        with connect(role) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement", [f"UPDATE {TABLE} SET dataset = 'x'", f"DELETE FROM {TABLE}", f"TRUNCATE {TABLE}"]
)
def test_even_the_owner_is_refused_by_the_trigger(statement: str) -> None:
    for preparation in (
        "SELECT 1",
        "SET session_replication_role = replica",
        "SET ROLE privacy_platform_owner",
    ):
        with connect(Role.ADMIN) as connection:
            connection.execute(preparation)
            with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
                connection.execute(statement)
            connection.rollback()


def test_what_the_owner_inserts_is_chained_all_the_same(log: psycopg.Connection) -> None:
    end = last(log)
    log.execute(
        f"INSERT INTO {TABLE} (seq, at, actor, action, outcome, prev_hash, hash) "
        "VALUES (1, 'epoch', 'somebody', 'publish', 'succeeded', '', '')"
    )
    found = entries(log, limit=1)[0]
    assert (found.seq, found.actor) == (end + 1, "postgres")
    assert found.at.year > 2000
    assert verify(log).ok


@pytest.mark.parametrize(
    "change",
    [
        "at = at + interval '1 microsecond'",
        "at = 'infinity'",
        "actor = 'somebody'",
        "action = 'export'",
        "dataset = NULL",
        "dataset = ''",
        "subject_table = ''",
        "run_id = ''",
        "outcome = 'failed'",
        "details = '{}'",
        "hash = sha256('')",
        "dataset = dataset || '-', subject_table = NULL",
    ],
)
def test_a_changed_entry_is_found(log: psycopg.Connection, change: str) -> None:
    seq = last(log) - 4
    tamper(log, f"UPDATE {TABLE} SET {change} WHERE seq = {seq}")
    found = verify(log)
    assert (found.problem, found.seq) == (AuditProblem.CHANGED, seq)


def test_a_changed_entry_with_its_hash_made_anew_is_found(log: psycopg.Connection) -> None:
    seq = last(log) - 4
    tamper(log, f"UPDATE {TABLE} SET dataset = 'x' WHERE seq = {seq}")
    log.execute(f"UPDATE {TABLE} l SET hash = governance.audit_hash(l) WHERE seq = {seq}")
    found = verify(log)
    assert (found.problem, found.seq) == (AuditProblem.UNLINKED, seq + 1)


def test_a_removed_entry_is_found(log: psycopg.Connection) -> None:
    seq = last(log) - 4
    tamper(log, f"DELETE FROM {TABLE} WHERE seq = {seq}")
    found = verify(log)
    assert (found.problem, found.seq) == (AuditProblem.MISSING, seq)


def test_a_removed_entry_with_the_gap_closed_is_found(log: psycopg.Connection) -> None:
    seq = last(log) - 4
    tamper(log, f"DELETE FROM {TABLE} WHERE seq = {seq}")
    for later in range(seq + 1, seq + 5):
        log.execute(f"UPDATE {TABLE} SET seq = seq - 1 WHERE seq = {later}")
    found = verify(log)
    assert (found.problem, found.seq) == (AuditProblem.UNLINKED, seq)


@pytest.mark.parametrize("kept", [1, 7])
def test_a_removed_tail_is_found(log: psycopg.Connection, kept: int) -> None:
    tamper(log, f"DELETE FROM {TABLE} WHERE seq > {kept}")
    found = verify(log)
    assert (found.problem, found.seq) == (AuditProblem.MISSING, kept + 1)


def test_an_emptied_log_is_found(log: psycopg.Connection) -> None:
    tamper(log, f"DELETE FROM {TABLE}")
    log.execute("UPDATE governance.audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex')")
    found = verify(log)
    assert (found.problem, found.seq, found.entries) == (AuditProblem.MISSING, 1, 0)


@pytest.mark.parametrize("everything", [False, True])
def test_swapped_entries_are_found(log: psycopg.Connection, everything: bool) -> None:
    seq = last(log) - 4
    if everything:  # the rows change places, their hashes with them
        tamper(log, f"UPDATE {TABLE} SET seq = -1 WHERE seq = {seq}")
        log.execute(f"UPDATE {TABLE} SET seq = {seq} WHERE seq = {seq + 1}")
        log.execute(f"UPDATE {TABLE} SET seq = {seq + 1} WHERE seq = -1")
        expected = AuditProblem.UNLINKED
    else:  # only what they say changes places
        tamper(
            log,
            f"UPDATE {TABLE} a SET dataset = b.dataset, details = b.details FROM {TABLE} b "
            f"WHERE a.seq IN ({seq}, {seq + 1}) AND b.seq = {2 * seq + 1} - a.seq",
        )
        expected = AuditProblem.CHANGED
    found = verify(log)
    assert (found.problem, found.seq) == (expected, seq)


def test_an_entry_put_before_the_first_is_found(log: psycopg.Connection) -> None:
    tamper(log, f"UPDATE {TABLE} SET seq = 0 WHERE seq = 1")
    assert verify(log).problem is AuditProblem.UNLINKED


@pytest.mark.parametrize(
    "statement", ["DELETE FROM governance.audit_head", "UPDATE governance.audit_head SET seq = seq - 1"]
)
def test_a_changed_head_is_found(log: psycopg.Connection, statement: str) -> None:
    log.execute(statement)
    assert verify(log).problem is AuditProblem.HEAD


def test_a_log_rewritten_with_its_head_is_found_by_an_anchor(log: psycopg.Connection) -> None:
    anchor = verify(log).head
    tamper(log, f"DELETE FROM {TABLE} WHERE seq > 3")
    log.execute(f"UPDATE governance.audit_head h SET seq = l.seq, hash = l.hash FROM {TABLE} l WHERE l.seq = 3")
    assert verify(log).ok
    found = verify(log, anchor=anchor)
    assert (found.problem, found.seq) == (AuditProblem.MISSING, 4)
    log.execute(f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER audit_append")
    while last(log) < anchor.seq:
        record(log, AuditEntry(AuditAction.EXPORT))
    assert verify(log).ok
    found = verify(log, anchor=anchor)
    assert (found.problem, found.seq) == (AuditProblem.ANCHOR, anchor.seq)
    assert verify(log, anchor=AuditHead(1, entries(log, before=2)[0].hash)).ok


def test_writers_at_once_leave_no_gap() -> None:
    def write() -> None:
        for number in range(20):
            with connect() as connection:
                record(connection, AuditEntry(AuditAction.QUARANTINE, run_id="at-once"))
                if number % 5 == 0:
                    connection.rollback()

    with connect(Role.COMPLIANCE) as connection:
        before = verify(connection)
    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with connect(Role.COMPLIANCE) as connection:
            assert verify(connection).ok
    with connect(Role.COMPLIANCE) as connection:
        after = verify(connection, anchor=before.head)
    assert after.ok
    assert after.entries == before.entries + 4 * 16


def test_verification_reads_the_log_in_pieces(log: psycopg.Connection) -> None:
    log.execute(f"INSERT INTO {TABLE} (action, outcome) SELECT 'export', 'succeeded' FROM generate_series(1, 12000)")
    found = verify(log)
    assert found.ok
    assert found.entries == last(log)


def test_entries_are_filtered_and_paged(log: psycopg.Connection) -> None:
    end = last(log)
    assert [entry.seq for entry in entries(log, limit=3, before=end)] == [end - 1, end - 2, end - 3]
    assert [entry.seq for entry in entries(log, dataset="d4")] == [end - 5]
    assert entries(log, action=AuditAction.EXPORT, dataset="d4") == []


def test_lineage_belongs_to_the_transaction() -> None:
    wanted = lineage.LineageRecord(
        source="raw.raw_users",
        target="anonymized.anonymized_users",
        transformation="policy 1a2b",
        records_in=10,
        records_out=9,
        run_id="lineage-1",
        column_lineage={"email_hash": {"from": ["email"], "technique": "hash"}},
    )
    with connect() as connection:
        lineage.record(connection, wanted)
        connection.rollback()
        assert lineage.entries(connection, run_id="lineage-1") == []
        lineage.record(connection, wanted)
        connection.commit()
    with connect(Role.COMPLIANCE) as connection:
        (found,) = lineage.entries(connection, target=wanted.target, source=wanted.source, run_id="lineage-1")
    assert (found.records_in, found.records_out, found.status) == (10, 9, "succeeded")
    assert found.column_lineage == wanted.column_lineage
    with connect() as connection, pytest.raises(errors.CheckViolation):
        connection.execute(
            "INSERT INTO governance.data_lineage "
            "(source, target, transformation, records_in, records_out, run_id, status, column_lineage) "
            "VALUES ('a', 'b', 'c', -1, 0, 'r', 's', '{}')"
        )

"""Batches of a topic: both zones, windows and offsets at once, beside what came by files."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from kafka import TopicPartition
from psycopg import Connection

from privacy_platform.engine import release_stream, standing_keys
from privacy_platform.engine import release_windows as release_windows_module
from privacy_platform.engine.ahead import Ahead
from privacy_platform.engine.gate import GateError, Run, WarehouseError
from privacy_platform.engine.release_anonymized import UpstreamMissingError, anonymized_checks
from privacy_platform.engine.release_stream import NotStreamedError, StreamReport, release_batch
from privacy_platform.engine.release_windows import release_windows
from privacy_platform.engine.sources.topic import TopicError
from privacy_platform.engine.sources.zone import enter_snapshot, read_query, snapshot
from privacy_platform.engine.stage import TaskRefusedError
from privacy_platform.engine.standing_keys import StandingKeys
from privacy_platform.engine.stream import is_streamed, streaming
from privacy_platform.policy.compile import anonymized_table, raw_table
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy, DatasetPolicy
from privacy_platform.policy.tables import WHOLE, Table
from privacy_platform.streaming.broker import Broker
from privacy_platform.vault.keyring import ensure_keyring
from privacy_platform.warehouse.checks import CheckOutcome
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import Release, ReleaseBusyError
from privacy_platform.warehouse.windows import window_cuts
from privacy_platform_tests.integration.engine.support import (
    Row,
    World,
    days,
    execute,
    people_policy,
    person,
    query,
    staging_is_empty,
    table,
    visit,
    visits_policy,
)

if TYPE_CHECKING:
    from kafka import KafkaProducer

MINUTE = timedelta(minutes=1)


@dataclass
class Stream:
    """A topic, the dataset it feeds and the people it is about; its tables are this test's own."""

    world: World
    broker: Broker
    topic: str
    people: DatasetPolicy
    visits: DatasetPolicy
    windows: AggregatePolicy
    producer: "KafkaProducer"
    sent: int = 0
    partitions: list[int] = field(default_factory=lambda: [0, 0, 0])

    @property
    def policies(self) -> PolicySet:
        datasets = {policy.dataset: policy for policy in (self.people, self.visits)}
        return PolicySet(datasets, {self.windows.aggregate: self.windows})

    @property
    def raw(self) -> str:
        return f"raw.raw_{self.visits.dataset}"

    @property
    def shown(self) -> str:
        return f"anonymized.anonymized_{self.visits.dataset}"

    def send(self, *values: Row | bytes | None, partition: int | None = None, **headers: str) -> None:
        """Send messages, in turn to each partition or all to one; returns when the broker has them."""
        futures = []
        for value in values:
            number = self.sent % 3 if partition is None else partition
            message = json.dumps(value).encode() if isinstance(value, dict) else value
            marks = [(name, text.encode()) for name, text in headers.items()]
            futures.append(self.producer.send(self.topic, key=b"k", value=message, partition=number, headers=marks))
            self.sent += 1
            self.partitions[number] += 1
        self.producer.flush()
        for future in futures:
            future.get(timeout=30)

    def batch(
        self, limit: int = 100_000, ahead: Ahead | None = None, standing: StandingKeys | None = None
    ) -> StreamReport | None:
        run, spark = self.world.run(), self.world.spark
        return release_batch(
            lambda: spark, self.visits, self.policies, run, limit=limit, ahead=ahead, standing=standing
        )

    def ahead(self, limit: int) -> Ahead:
        """What lands the next batch; as of a process that dies unless its block ends."""
        return Ahead(lambda: self.world.spark, self.visits, limit)

    def offsets(self) -> list[int]:
        found = query(
            "SELECT next_offset FROM governance.stream_offsets WHERE topic = %s ORDER BY partition", self.topic
        )
        return [offset for (offset,) in found]

    def keys(self, name: str) -> list[str]:
        return sorted(row["visit"] for row in table(name))

    def counted(self) -> list[Row]:
        return (
            table(f"analytics.{self.windows.aggregate}")
            if query("SELECT to_regclass(%s)", f"analytics.{self.windows.aggregate}") != [(None,)]
            else []
        )

    def quarantined(self, stage: str = "landing") -> list[tuple[Any, ...]]:
        return query(
            "SELECT source, position, error FROM raw.quarantine WHERE dataset = %s AND stage = %s ORDER BY 1, position",
            self.visits.dataset,
            stage,
        )


def have_landed(ahead: Ahead) -> int:
    """How many records have landed ahead, as soon as they have."""
    assert ahead._next is not None
    return ahead._next.result(timeout=60).statistics["staged"]


@pytest.fixture
def stream(world: World, kafka: Broker, topic: str) -> Iterator[Stream]:
    """Twenty people who are published, and an empty topic of their visits."""
    ensure_keyring()
    name = f"s{topic[-8:]}"
    people = people_policy(f"{name}p")
    visits = visits_policy(f"{name}v", people.dataset, source={"files": [f"{name}v*"], "topic": topic})
    windows = AggregatePolicy.model_validate({
        "aggregate": f"{name}w",
        "description": "Visits a minute.",
        "source": f"anonymized_{visits.dataset}",
        "unit": "token",
        "minimum_group_size": 3,
        "window": {"column": "at", "minutes": 1, "lateness_minutes": 10},
        "dimensions": {"page": {"column": "page", "comment": "Page."}},
        "measures": {
            "visits": {"kind": "count", "comment": "Visits."},
            "visitors": {"kind": "count_distinct", "column": "token", "comment": "People."},
        },
    })  # fmt: skip
    world.land(people, world.put(f"{people.dataset}.jsonl", [person(number) for number in range(20)]))
    world.anonymize(people)
    producer = kafka.client.producer(max_request_size=8 * 2**20)
    try:
        yield Stream(world, kafka, topic, people, visits, windows, producer)
    finally:
        producer.close()


def at(moment: datetime, number: int, **changes: Any) -> Row:
    return visit(number, 20, at=moment.strftime("%Y-%m-%dT%H:%M:%SZ"), page="home", **changes)


def test_a_batch_publishes_everything_at_once_and_once(stream: Stream) -> None:
    rows = [visit(number, 20) for number in range(60)]
    stream.send(*rows)
    report = stream.batch()
    assert report is not None
    assert (report.records, report.lag, report.late) == (60, 0, 0)
    assert stream.keys(stream.raw) == stream.keys(stream.shown) == sorted(row["visit"] for row in rows)
    assert stream.offsets() == stream.partitions == [20, 20, 20]
    assert {(row["at"].date(), row["page"]) for row in table(stream.shown)} == {
        (datetime.fromisoformat(row["at"]).date(), row["page"]) for row in rows
    }
    actions = [action for action, outcome, _ in stream.world.actions() if outcome == "succeeded"]
    assert actions.count("publish") == 3
    assert query(
        "SELECT source, records_in, records_out FROM governance.data_lineage WHERE target = %s", stream.raw
    ) == [(f"topic_{stream.visits.dataset}", 60, 60)]
    assert stream.batch() is None
    assert staging_is_empty()
    stream.send(visit(60, 20))
    again = stream.batch()
    assert again is not None
    assert [part.table_rows for part in again.tables[:2]] == [61, 61]


def test_a_batch_is_bounded_and_the_next_goes_on(stream: Stream) -> None:
    stream.send(*(visit(number, 20) for number in range(30)), partition=1)
    first = stream.batch(limit=20)
    assert first is not None
    assert (first.records, first.lag, stream.offsets()) == (20, 10, [20])
    second = stream.batch(limit=20)
    assert second is not None
    assert (second.records, second.lag, stream.offsets()) == (10, 0, [30])
    assert len(stream.keys(stream.shown)) == 30


@pytest.mark.parametrize("known", ["not known", "joined", "looked up"])
def test_records_come_once_by_whatever_way(stream: Stream, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    standing = None if known == "not known" else StandingKeys(raw_table(stream.visits))
    monkeypatch.setattr(standing_keys, "_LOOKED_UP", 1.0 if known == "looked up" else 0.0)
    rows = [visit(number, 20) for number in range(12)]
    stream.send(rows[0], rows[1], rows[0], rows[2])  # sent again, as a producer does that was not told of success
    report = stream.batch(standing=standing)
    assert report is not None
    assert report.tables[0].statistics["duplicates"] == 1
    stream.send(*rows[2:5])
    report = stream.batch(standing=standing)
    assert report is not None
    assert report.tables[0].statistics["already_landed"] == 1
    file = stream.world.put(f"{stream.visits.dataset}.jsonl", rows[4:8])
    for _ in range(2):  # landed again, it takes nothing from what came by the topic
        stream.world.land(stream.visits, file, selected=days(3))
        stream.world.anonymize(stream.visits, stream.people, selected=days(3))
        assert stream.keys(stream.raw) == stream.keys(stream.shown) == sorted(row["visit"] for row in rows[:8])
    stream.send(*rows)  # nor does the topic from the file's
    report = stream.batch(standing=standing)
    assert report is not None
    assert report.tables[0].statistics["already_landed"] == 8
    assert stream.keys(stream.raw) == stream.keys(stream.shown) == sorted(row["visit"] for row in rows)


@pytest.mark.parametrize("most", [0.0, 1.0])
def test_the_keys_that_stand_are_read_again_only_when_others_have_published(
    stream: Stream, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(connection: Connection, table: Table) -> standing_keys.KeyFilter:
        read.append(table.name)
        return make(connection, table)

    make = standing_keys._filter_of
    monkeypatch.setattr(standing_keys, "_filter_of", counted)
    monkeypatch.setattr(standing_keys, "_LOOKED_UP", most)
    standing = StandingKeys(raw_table(stream.visits))
    rows = [visit(number, 20) for number in range(50)]
    dropped = []
    for start in range(0, 30, 10):  # each batch has half of the one before
        stream.send(*rows[max(0, start - 5) : start + 10])
        report = stream.batch(standing=standing)
        assert report is not None
        dropped.append(report.tables[0].statistics.get("already_landed", 0))
    assert (dropped, len(read)) == ([0, 5, 5], 1)  # the first found no table
    file = stream.world.put(f"{stream.visits.dataset}.jsonl", rows[30:40])
    stream.world.land(stream.visits, file, selected=days(3))
    stream.world.anonymize(stream.visits, stream.people, selected=days(3))
    stream.send(*rows[20:])
    report = stream.batch(standing=standing)
    assert report is not None
    assert (report.tables[0].statistics["already_landed"], len(read)) == (20, 2)
    assert stream.keys(stream.raw) == stream.keys(stream.shown) == sorted(row["visit"] for row in rows)
    standing.forget()
    stream.send(rows[0])
    assert stream.batch(standing=standing) is not None
    assert len(read) == 3


def test_keys_of_a_table_that_is_gone_are_forgotten(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_keys, "_LOOKED_UP", 1.0)  # a join would find them whatever the filter holds
    standing = StandingKeys(raw_table(stream.visits))
    rows = [visit(number, 20) for number in range(12)]
    for some in (rows[:6], rows[4:8]):
        stream.send(*some)
        assert stream.batch(standing=standing) is not None
    execute(f"DROP TABLE {stream.raw}; DELETE FROM {stream.shown}")
    stream.send(*rows[8:])
    assert stream.batch(standing=standing) is not None
    stream.send(*rows)
    report = stream.batch(standing=standing)
    assert report is not None
    assert report.tables[0].statistics["already_landed"] == 4
    assert stream.keys(stream.raw) == stream.keys(stream.shown) == sorted(row["visit"] for row in rows)


def test_a_batch_whose_keys_cannot_be_read_can_be_tried_again(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(query: str) -> Iterator[Any]:
        raise OSError(f"server closed the connection: {query}")

    standing = StandingKeys(raw_table(stream.visits))
    rows = [visit(number, 20) for number in range(12)]
    stream.send(*rows[:6])
    assert stream.batch(standing=standing) is not None
    stream.send(*rows[3:])
    with monkeypatch.context() as patch:
        patch.setattr(standing_keys, "read_frames", gone)
        with pytest.raises(WarehouseError, match=r"could not be read \(OSError\)"):
            stream.batch(standing=standing)
    report = stream.batch(standing=standing)
    assert report is not None
    assert report.tables[0].statistics["already_landed"] == 3
    assert stream.keys(stream.raw) == stream.keys(stream.shown) == sorted(row["visit"] for row in rows)


def test_what_a_run_lands_between_two_batches_is_seen_by_what_has_landed_ahead(stream: Stream) -> None:
    rows = [visit(number, 20) for number in range(30)]
    stream.send(*rows, partition=1)
    with streaming(stream.topic), stream.ahead(limit=20) as ahead:
        first = stream.batch(limit=20, ahead=ahead)
        assert first is not None
        assert (first.records, first.lag) == (20, 10)
        landed = have_landed(ahead)
        file = stream.world.put(f"{stream.visits.dataset}.jsonl", rows[22:25])
        stream.world.land(stream.visits, file, selected=days(3))
        stream.world.anonymize(stream.visits, stream.people, selected=days(3))
        assert landed == 10
        second = stream.batch(limit=20, ahead=ahead)
        assert second is not None
        assert (second.records, second.lag, second.tables[0].statistics["already_landed"]) == (10, 0, 3)
        assert staging_is_empty()
        assert stream.batch(limit=20, ahead=ahead) is None
    assert stream.keys(stream.raw) == stream.keys(stream.shown) == sorted(row["visit"] for row in rows)
    assert stream.offsets() == [30]


def test_what_landed_ahead_of_a_batch_that_fails_lands_again(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> list[CheckOutcome]:
        return [CheckOutcome("tokens_resolve", False, "refused")]

    stream.send(*(visit(number, 20) for number in range(30)), partition=1)
    with stream.ahead(limit=10) as ahead:
        monkeypatch.setattr(release_stream, "window_checks", refused)  # the next batch lands already
        with pytest.raises(GateError, match="refused"):
            stream.batch(limit=10, ahead=ahead)
        ahead.forget()
        assert staging_is_empty()
        assert stream.offsets() == []
        monkeypatch.undo()
        reports = [stream.batch(limit=10, ahead=ahead) for _ in range(3)]
        assert [report and report.lag for report in reports] == [20, 10, 0]
    assert len(stream.keys(stream.raw)) == len(stream.keys(stream.shown)) == 30


@pytest.mark.parametrize("next_one", ["stream", "batch", "file"])
def test_what_a_dead_process_has_landed_ahead_is_dropped_by_whoever_comes_next(stream: Stream, next_one: str) -> None:
    rows = [visit(number, 20) for number in range(20)]
    stream.send(*rows, partition=1)
    dead = stream.ahead(limit=10)
    assert stream.batch(limit=10, ahead=dead) is not None
    assert have_landed(dead) == 10
    assert not staging_is_empty()
    if next_one == "stream":
        with streaming(stream.topic):
            assert staging_is_empty()
    elif next_one == "batch":
        assert stream.batch() is not None
    else:
        stream.world.land(stream.visits, stream.world.put(f"{stream.visits.dataset}.jsonl", rows), selected=days(3))
    assert staging_is_empty()


def test_poison_goes_to_quarantine_with_its_place_and_stops_nothing(stream: Stream) -> None:
    stream.send(*(visit(number, 20) for number in range(90)), partition=0)
    stream.send(None, b'{"visit": ', visit(1000, 20, colour="red"), visit(1001, 20, words="x" * 5_000_000), partition=1)
    stream.send(visit(1002, 20), partition=1, schema_version="7")
    stream.send(visit(1003, 20, at="2999-01-01T00:00:00Z"), visit(1004, 20, items="many"), partition=2)
    report = stream.batch()
    assert report is not None
    assert len(stream.keys(stream.raw)) == len(stream.keys(stream.shown)) == 90
    source, today = stream.topic, datetime.now(UTC).date()
    assert stream.quarantined() == [
        (f"{source}[1]", "0", "no value (a tombstone)"),
        (f"{source}[1]", "1", "not valid JSON"),
        (f"{source}[1]", "2", "unknown field colour"),
        (f"{source}[1]", "3", "larger than 1048576 bytes"),
        (f"{source}[1]", "4", "schema version is not 1"),
        (f"{source}[2]", "0", f"at: outside the partitions, 2024-03-01 to {today}"),
        (f"{source}[2]", "1", "items: not a valid integer"),
    ]
    assert stream.offsets() == stream.partitions
    stream.send(b"broken", *(visit(number, 20) for number in range(100, 120)))
    assert stream.batch() is not None
    assert len(stream.quarantined()) == 8  # what was there stays


def test_a_topic_that_changes_its_form_stops_where_it_is(stream: Stream) -> None:
    stream.send(*(visit(number, 20, colour="red") for number in range(12)))
    with pytest.raises(GateError, match="do not fit the policy"):
        stream.batch()
    assert stream.offsets() == []
    assert not stream.counted()
    assert staging_is_empty()
    stream.send(*(visit(number, 20) for number in range(100, 160)))  # few among many: those that fit go through
    assert stream.batch() is not None
    assert len(stream.keys(stream.shown)) == 60
    assert len(stream.quarantined()) == 12


def test_a_check_that_fails_takes_back_what_was_added_beside_it(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(connection: Connection, policy: DatasetPolicy, release: Release, *others: Any) -> list[CheckOutcome]:
        deadline = time.monotonic() + 30
        while not query(
            "SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = %s AND l.pid <> %s",
            release.partition(WHOLE),
            connection.info.backend_pid,
        ):
            assert time.monotonic() < deadline
        return anonymized_checks(connection, policy, release, *others)

    stream.send(*(visit(number, 20) for number in range(10)))
    assert stream.batch() is not None
    before = (stream.keys(stream.raw), stream.keys(stream.shown), stream.counted(), stream.offsets())
    stream.send(*(visit(number, 20) for number in range(10, 29)), visit(29, 20, page="session-7"))
    monkeypatch.setattr(release_stream, "anonymized_checks", late)  # not before the rows are being added
    began = time.monotonic()
    with pytest.raises(GateError, match="column `page` holds raw values of field session"):
        stream.batch()
    assert time.monotonic() - began < 25  # it has not waited for its own locks, which takes 30 seconds
    assert (stream.keys(stream.raw), stream.keys(stream.shown), stream.counted(), stream.offsets()) == before
    assert staging_is_empty()


def test_a_publication_that_fails_leaves_nothing_and_is_made_again(stream: Stream) -> None:
    stream.send(*(visit(number, 20) for number in range(10)))
    assert stream.batch() is not None
    before = (stream.keys(stream.raw), stream.keys(stream.shown), stream.counted(), stream.offsets())
    stream.send(*(visit(number, 20) for number in range(10, 30)))
    # The last statement before the commit is the audit's.
    execute(
        "CREATE FUNCTION governance.refuse_test() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.action = 'publish' AND NEW.subject_table LIKE 'analytics.%%' THEN RAISE 'no'; END IF; "
        "RETURN NEW; END $$"
    )
    execute(
        "CREATE TRIGGER a_test BEFORE INSERT ON governance.privacy_audit_log "
        "FOR EACH ROW EXECUTE FUNCTION governance.refuse_test()"
    )
    try:
        with pytest.raises(WarehouseError):
            stream.batch()
    finally:
        execute("DROP FUNCTION governance.refuse_test CASCADE")
    assert (stream.keys(stream.raw), stream.keys(stream.shown), stream.counted(), stream.offsets()) == before
    assert staging_is_empty()
    assert stream.batch() is not None
    assert len(stream.keys(stream.raw)) == len(stream.keys(stream.shown)) == 30
    assert stream.offsets() == stream.partitions


def test_windows_show_enough_people_and_become_final(stream: Stream) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0) - 2 * MINUTE
    old = now - timedelta(minutes=30)
    few = [at(now + MINUTE, number) for number in range(2)]
    stream.send(*(at(now, number) for number in range(10, 14)), *(at(old, number) for number in range(20, 25)), *few)
    report = stream.batch()
    assert report is not None
    assert report.late == 0
    windows = [
        (row["window_start"], row["page"], row["visits"], row["visitors"], row["is_final"]) for row in stream.counted()
    ]
    assert windows == [(old, "home", 5, 5, True), (now, "home", 4, 4, False)]
    # Later ones are counted in, also those that come when their window was final.
    stream.send(at(now, 11, visit="again"), at(old, 30), at(now + MINUTE, 7))
    report = stream.batch()
    assert report is not None
    assert report.late == 1
    windows = [(row["window_start"], row["visits"], row["visitors"], row["is_final"]) for row in stream.counted()]
    assert windows == [(old, 6, 6, True), (now, 5, 4, False), (now + MINUTE, 3, 3, False)]
    counted = stream.counted()
    release_windows(stream.windows, stream.policies, stream.world.run())
    assert stream.counted() == counted
    execute(
        "UPDATE governance.streams SET complete_until = complete_until + interval '1 hour' WHERE topic = %s",
        stream.topic,
    )
    execute(f"UPDATE analytics.{stream.windows.aggregate} SET is_final = false")
    stream.send(at(old, 31))
    stream.batch()
    assert [row["is_final"] for row in stream.counted()] == [True, False, False]


@pytest.mark.parametrize("processors", ["1", "3"])
def test_all_windows_are_counted_stretch_by_stretch(
    stream: Stream, processors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    stream.send(*(at(now + number % 39 * MINUTE, number) for number in range(10, 210)))
    stray = at(now - timedelta(days=700), 3)
    stream.send(stray)
    stream.batch()
    expected = stream.counted()
    assert len(expected) == 39
    monkeypatch.setenv("PRIVACY_PLATFORM_PARALLELISM", processors)
    source, begins = (
        anonymized_table(stream.visits),
        "SELECT %s = date_bin(%s, %s, timestamptz '1970-01-01 00:00:00+00')",
    )
    for minutes in (1, 7, 1440):
        window = {"column": "at", "minutes": minutes, "lateness_minutes": 10}
        policy = AggregatePolicy.model_validate(stream.windows.model_dump(mode="json") | {"window": window})
        with closing(connect(Role.PIPELINE)) as connection:
            cuts = window_cuts(connection, policy, source, 8)
        assert all(query(begins, cut, minutes * MINUTE, cut) == [(True,)] for cut in cuts)
        if minutes == 1:  # all but what the one row of long ago, a block of its own, takes for itself
            assert len([cut for cut in cuts if cut > now]) >= 5
    for rows in (1, 30, 1_000_000):
        monkeypatch.setattr(release_windows_module, "_ROWS_COUNTED", rows)
        release_windows(stream.windows, stream.policies, stream.world.run())
        assert stream.counted() == expected


def test_a_quiet_topic_closes_its_windows(stream: Stream) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    stream.send(*(at(now - 15 * MINUTE, number) for number in range(5)))
    stream.batch()
    execute(f"UPDATE analytics.{stream.windows.aggregate} SET is_final = false")
    assert stream.batch() is None
    assert [row["is_final"] for row in stream.counted()] == [True]


def test_records_of_people_who_land_later_are_published_then(stream: Stream) -> None:
    stranger = person(77)
    stream.send(visit(1, 20), visit(2, 20, id=stranger["id"], at="2024-03-02T01:02:03Z"))
    assert stream.batch() is not None
    assert (stream.keys(stream.raw), stream.keys(stream.shown)) == (["v1", "v2"], ["v1"])
    assert stream.quarantined("anonymizing") == [
        (f"{stream.raw}_20240302", "v2", f"id: not a subject of {stream.people.dataset}")
    ]
    stream.world.land(stream.people, stream.world.put(f"{stream.people.dataset}2.jsonl", [stranger]))
    stream.world.anonymize(stream.people)
    stream.world.anonymize(stream.visits, stream.people, selected=days(3))
    assert stream.keys(stream.shown) == ["v1", "v2"]
    assert stream.quarantined("anonymizing") == []


def test_deleted_records_are_said_and_not_skipped(stream: Stream) -> None:
    stream.send(*(visit(number, 20) for number in range(6)), partition=0)
    assert stream.batch() is not None
    stream.send(*(visit(number, 20) for number in range(6, 12)), partition=0)
    admin = stream.broker.client.admin()
    try:
        admin.delete_records({TopicPartition(stream.topic, 0): 8})
    finally:
        admin.close()
    with pytest.raises((TopicError, TaskRefusedError), match="offset 6 is gone"):
        stream.batch()
    assert stream.offsets() == [6]


def test_what_cannot_be_streamed_says_why(stream: Stream) -> None:
    with pytest.raises(NotStreamedError, match=r"source\.topic"):
        release_batch(lambda: stream.world.spark, stream.people, stream.policies, Run("x"))
    stream.send(visit(1, 20))
    execute(f"DROP TABLE anonymized.anonymized_{stream.people.dataset} CASCADE")
    with pytest.raises(UpstreamMissingError, match="materialize"):
        stream.batch()
    assert stream.offsets() == []


def test_one_process_streams_a_topic(stream: Stream) -> None:
    assert not is_streamed(stream.topic)
    with streaming(stream.topic):
        assert is_streamed(stream.topic)
        with pytest.raises(ReleaseBusyError, match="another process"), streaming(stream.topic):
            pass
    assert not is_streamed(stream.topic)


def test_readers_see_one_state_whatever_is_added(stream: Stream) -> None:
    stream.send(visit(1, 20))
    stream.batch()
    statement = f"SELECT visit FROM {stream.shown}"
    with snapshot() as seen:
        stream.send(visit(2, 20))
        stream.batch()
        assert [name for batch in read_query(statement, seen=seen) for name in batch["visit"].to_pylist()] == ["v1"]
        with connect(Role.PIPELINE) as connection:
            enter_snapshot(connection, seen)
            assert connection.execute(f"SELECT count(*) FROM {stream.shown}").fetchone() == (1,)
    assert stream.keys(stream.shown) == ["v1", "v2"]

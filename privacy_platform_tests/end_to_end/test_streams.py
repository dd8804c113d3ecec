"""A topic as its users run it: the sensor and the run it asks for, and the process that keeps publishing."""

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from privacy_platform.defs.streams import OFFSETS_TAG
from privacy_platform.engine.stream import streaming
from privacy_platform.streaming import broker
from privacy_platform.streaming.topics import USER_EVENTS, ensure_topic
from privacy_platform_tests.end_to_end.homes import Home, until
from privacy_platform_tests.end_to_end.people import Row, events, people, write

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SOMEONE = people(60)


@pytest.fixture(scope="module")
def home(homes: Callable[..., Home], spark: "SparkSession") -> Home:
    """A home whose users are published and whose topic is there."""
    made = homes()
    write(made.landing / "users.jsonl", SOMEONE)
    made.materialize("raw_users,anonymized_users")
    ensure_topic(broker.start(made.path).client)
    return made


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with home.entered(), dg.DagsterInstance.ephemeral() as made:
        yield made


def send(home: Home, rows: Sequence[Row]) -> None:
    running = broker.status(home.path)
    assert running is not None
    with closing(running.client.producer()) as producer:
        futures = [producer.send(USER_EVENTS, json.dumps(row).encode(), row["user_id"].encode()) for row in rows]
        for future in futures:
            future.get(timeout=30)


@contextmanager
def definitions() -> Iterator[dg.Definitions]:
    from privacy_platform.definitions import build_definitions

    yield build_definitions()


def look(instance: dg.DagsterInstance) -> dg.RunRequest | str:
    """What the sensor asks for, or why it asks for nothing."""
    with definitions() as built, dg.build_sensor_context(instance=instance, definitions=built) as context:
        result: Any = built.get_sensor_def("stream_lag")(context)
    if isinstance(result, dg.SkipReason):
        return result.skip_message or ""
    if not result.run_requests:
        return str(result.skip_reason.skip_message)
    [request] = result.run_requests
    assert isinstance(request, dg.RunRequest)
    return request


def run(instance: dg.DagsterInstance, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    with definitions() as built:
        job = built.get_job_def("stream_events")
        return job.execute_in_process(instance=instance, tags=request.tags, raise_on_error=False)


def published(home: Home) -> set[str]:
    return {name for (name,) in home.rows("SELECT event_id FROM anonymized.anonymized_events")}


def test_the_sensor_starts_a_run_that_publishes_and_then_rests(home: Home, instance: dg.DagsterInstance) -> None:
    assert look(instance) == f"nothing new in {USER_EVENTS}"
    sent = events(SOMEONE, 600)
    send(home, sent)
    request = look(instance)
    assert isinstance(request, dg.RunRequest)
    assert request.job_name == "stream_events"
    result = run(instance, request)
    assert result.success
    assert published(home) == {row["event_id"] for row in sent}
    assert home.value("SELECT count(*) FROM analytics.event_windows") > 0
    assert look(instance) == f"nothing new in {USER_EVENTS}"
    shown = {event.asset_key.to_user_string() for event in result.all_events if event.is_step_materialization}
    assert shown == {"raw_events", "anonymized_events", "event_windows"}
    [seen] = instance.fetch_observations(dg.AssetKey("topic_events"), limit=1).records
    assert seen.asset_observation
    figures = {name: value.value for name, value in seen.asset_observation.metadata.items()}
    assert (figures["lag"], sum(figures["next offsets"].values())) == (0, 600)


def test_a_failed_run_is_tried_again_after_a_while(home: Home, instance: dg.DagsterInstance) -> None:
    send(home, events(SOMEONE, 10, start=1000))
    request = look(instance)
    assert isinstance(request, dg.RunRequest)
    with home.connect() as connection:
        connection.execute("ALTER TABLE anonymized.anonymized_users RENAME TO away")
        try:
            assert not run(instance, request).success
        finally:
            connection.execute("ALTER TABLE anonymized.away RENAME TO anonymized_users")
    waiting = look(instance)
    assert isinstance(waiting, str)
    assert "failed from these offsets 1 times" in waiting
    [record] = instance.get_run_records(dg.RunsFilter(tags={OFFSETS_TAG: request.tags[OFFSETS_TAG]}))
    assert record.dagster_run.status is dg.DagsterRunStatus.FAILURE
    assert run(instance, request).success
    assert len(published(home)) == 610


def test_the_sensor_stands_back_while_a_process_streams(home: Home, instance: dg.DagsterInstance) -> None:
    send(home, events(SOMEONE, 1, start=1900))
    with streaming(USER_EVENTS):
        assert look(instance) == f"{USER_EVENTS} is read by `privacy-platform stream`"
    assert isinstance(look(instance), dg.RunRequest)


def test_the_sensor_tells_the_lag_of_what_a_process_streams(home: Home, instance: dg.DagsterInstance) -> None:
    def evaluate(cursor: str | None) -> Any:
        with definitions() as built, dg.build_sensor_context(instance, cursor, definitions=built) as context:
            return built.get_sensor_def("stream_lag")(context)

    with streaming(USER_EVENTS):
        result = evaluate(None)
        [seen] = result.asset_events
        assert seen.asset_key == dg.AssetKey("topic_events")
        assert seen.metadata["lag"].value == 1
        assert isinstance(evaluate(result.cursor), dg.SkipReason)  # not at every look


def test_the_process_publishes_until_told_to_end(home: Home) -> None:
    sent = events(SOMEONE, 100, start=1900)
    send(home, sent[1:])
    with home.started("stream", "--limit", "60", "--json") as process:
        wanted = {row["event_id"] for row in sent}
        until(lambda: wanted <= published(home) or process.process.poll(), seconds=150, what="events published")
        assert wanted <= published(home), process.said()
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(timeout=60) == 0, process.said()
        text = process.said()
    batches = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert sum(batch["records"] for batch in batches) == 100
    assert max(batch["records"] for batch in batches) <= 60
    assert batches[-1]["lag"] == 0
    assert not any(row["user_id"] in text or row["event_id"] in text for row in sent)
    assert home.staging() == []


def test_ctrl_c_ends_the_process_as_well(home: Home) -> None:
    with home.started("stream") as process:
        until(lambda: "Streaming" in process.said() or process.process.poll(), seconds=90, what="streaming")
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(timeout=60) == 0, process.said()

"""Topics in Dagster: a job that publishes one batch, and the sensor that starts it when a topic has something new.

The sensor compares the topic's end offsets with those in PostgreSQL and never reads a message; nothing of a message
gets into Dagster. Offsets in PostgreSQL decide what a run reads, so a run started twice publishes nothing twice.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import dagster as dg
from pydantic import Field

from privacy_platform.defs.failures import discreet_failures
from privacy_platform.defs.metadata import report_metadata
from privacy_platform.defs.resources import SparkResource, WarehouseResource
from privacy_platform.defs.runs import PROCESS_TAG, fail_abandoned_runs
from privacy_platform.engine.gate import Run
from privacy_platform.engine.release_stream import StreamReport, release_batch
from privacy_platform.engine.sources.topic import Backlog, backlog
from privacy_platform.engine.stream import is_streamed
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.compile import topic_asset
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.processes import this_process
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.migrations import ensure_warehouse

RUN_RECORDS = 1_000_000
OFFSETS_TAG = "privacy_platform/offsets"
FIRST_DELAY, LONGEST_DELAY = 10.0, 600.0
# A look every few seconds would be most of what Dagster stores.
OBSERVED_EVERY = 60.0
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class StreamConfig(dg.Config):
    """How much one run reads."""

    limit: int = Field(default=RUN_RECORDS, ge=1)
    """Records at the most; what is left is for the next run."""


def streamed(policies: PolicySet) -> dict[str, DatasetPolicy]:
    """The datasets with a topic."""
    return {name: policy for name, policy in policies.datasets.items() if policy.source.topic}


def topic_specs(policies: PolicySet) -> list[dg.AssetSpec]:
    """The topics as assets that are only observed, upstream of their raw tables."""
    return [
        dg.AssetSpec(
            key=topic_asset(policy),
            group_name="landing",
            description=f"Kafka topic {policy.source.topic}: one JSON record a message.",
            kinds={"kafka"},
            owners=list(policy.owners),
            tags={"zone": "landing", "pii": "clear"},
        )
        for policy in streamed(policies).values()
    ]


def stream_jobs(policies: PolicySet) -> list[dg.JobDefinition]:
    """A job for each topic."""
    return [_stream_job(policy, policies) for policy in streamed(policies).values()]


def job_name(policy: DatasetPolicy) -> str:
    """The job that publishes a batch of a dataset's topic."""
    return f"stream_{policy.dataset}"


def _stream_job(policy: DatasetPolicy, policies: PolicySet) -> dg.JobDefinition:
    @dg.op(name=f"publish_batch_of_{policy.dataset}", out=dg.Out(dg.Nothing), pool="spark")
    def publish(
        context: dg.OpExecutionContext, config: StreamConfig, spark: SparkResource, warehouse: WarehouseResource
    ) -> None:
        # By the process a killed run is told from one that works.
        context.instance.add_run_tags(context.run_id, {PROCESS_TAG: this_process()})
        with discreet_failures(f"{policy.source.topic}"):
            warehouse.ready()
            report = release_batch(spark.session, policy, policies, Run(context.run_id), limit=config.limit)
        if report is None:
            context.log.info("%s has nothing new", policy.source.topic)
            return
        for event in _events(policy, report):
            context.log_event(event)

    @dg.job(
        name=job_name(policy),
        description=f"Publishes one batch of the topic {policy.source.topic}: raw, anonymized, windows and offsets in "
        "one transaction.",
        executor_def=dg.in_process_executor,
    )
    def stream() -> None:
        publish()

    return stream


def _events(policy: DatasetPolicy, report: StreamReport) -> Iterator[dg.AssetObservation | dg.AssetMaterialization]:
    """What a batch did, as events of its assets."""
    yield _observation(policy, report.lag, {each.partition: each.end for each in report.ranges})
    for table in report.tables:
        metadata = {
            **report_metadata(table),
            "checks": {check.name: check.message for check in table.checks},
            "late records": report.late,
        }
        for partition in table.partitions:
            yield dg.AssetMaterialization(
                table.table.name,
                description=f"{table.rows} rows from {report.topic}",
                metadata=metadata,
                partition=str(partition.day) if partition.day else None,
            )


def stream_sensor(policies: PolicySet, jobs: Sequence[dg.JobDefinition]) -> dg.SensorDefinition:
    """Starts a run for each topic that has records which are not published."""

    @dg.sensor(
        name="stream_lag",
        jobs=list(jobs),
        minimum_interval_seconds=5,
        description="Records in a topic that are not in the zones yet start a run, unless `privacy-platform stream` "
        "reads the topic.",
    )
    def stream_lag(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        ensure_warehouse()
        fail_abandoned_runs(context.instance)
        answers = [_look(context.instance, policy) for policy in streamed(policies).values()]
        requests = [answer for answer in answers if isinstance(answer, dg.RunRequest)]
        if requests:
            return dg.SensorResult(run_requests=requests, cursor=context.cursor)
        reason = "; ".join(map(str, answers))
        if time.time() < float(context.cursor or 0) + OBSERVED_EVERY:
            return dg.SkipReason(reason)
        seen = [event for policy in streamed(policies).values() for event in _observed(policy)]
        return dg.SensorResult(skip_reason=reason, asset_events=seen, cursor=str(time.time()))

    return stream_lag


def _observed(policy: DatasetPolicy) -> Iterator[dg.AssetObservation]:
    """What another process streams meanwhile, as Dagster would not see it otherwise."""
    topic = policy.source.topic or ""
    if not is_streamed(topic):
        return
    try:
        with closing(connect(Role.PIPELINE)) as connection:
            left = backlog(connection, topic, RUN_RECORDS)
    except PrivacyPlatformError:
        return
    yield _observation(policy, left.lag, left.expected)


def _observation(policy: DatasetPolicy, lag: int, next_offsets: Mapping[int, int]) -> dg.AssetObservation:
    """How far a topic has been published."""
    named = {str(number): offset for number, offset in sorted(next_offsets.items())}
    return dg.AssetObservation(
        topic_asset(policy), metadata={"topic": policy.source.topic or "", "lag": lag, "next offsets": named}
    )


def _look(instance: dg.DagsterInstance, policy: DatasetPolicy) -> dg.RunRequest | str:
    """A run for the topic of a dataset, or why there is none."""
    topic = policy.source.topic or ""
    if is_streamed(topic):
        return f"{topic} is read by `privacy-platform stream`"
    job = job_name(policy)
    if instance.get_runs(dg.RunsFilter(job_name=job, statuses=_UNFINISHED), limit=1):
        return f"a run of {job} is under way"
    try:
        with closing(connect(Role.PIPELINE)) as connection:
            left = backlog(connection, topic, RUN_RECORDS)
    except PrivacyPlatformError as error:
        return str(error)
    if not left.lag:
        return f"nothing new in {topic}"
    return _request(instance, job, left)


def _request(instance: dg.DagsterInstance, job: str, left: Backlog) -> dg.RunRequest | str:
    """The run that reads on from the published offsets, after a while if runs from there have failed already."""
    begin = hashlib.sha256(json.dumps([left.topic, sorted(left.expected.items())]).encode()).hexdigest()[:32]
    before = instance.get_run_records(dg.RunsFilter(job_name=job, tags={OFFSETS_TAG: begin}), limit=20)
    if before:
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (len(before) - 1))
        due = (before[0].end_time or before[0].create_timestamp.timestamp()) + delay
        if time.time() < due:
            wait = f"the next attempt is due in {due - time.time():.0f} s"
            return f"{left.topic} failed from these offsets {len(before)} times; {wait}"
    return dg.RunRequest(
        # With the attempt, since Dagster never starts a run of the same key again.
        run_key=f"{begin}-{len(before)}",
        job_name=job,
        tags={OFFSETS_TAG: begin},
    )

"""Does one user with a tenth of all events make a straggler?

Events are generated once, and a copy in which a tenth of the sessions is one user's (with `--one-session`: in which
that user has a single session a day). Both are taken through landing, anonymizing and every aggregate of events,
exact and private, in turns. Printed is for each the ratio of the seconds, and the longest task beside the mean one of
the stage in which that is the most (of those of two tasks or more that took half a second or more), from Spark's log of
events. With `--processors` the work is cut as for a cluster of so many, by however few it is then done.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl
from psycopg import sql
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.common import Timing, machine, save
from benchmarks.users_end_to_end import paired, private_home
from privacy_platform.engine.gate import Run
from privacy_platform.engine.release_aggregate import release_aggregate
from privacy_platform.engine.release_anonymized import release_anonymized
from privacy_platform.engine.release_raw import release_raw
from privacy_platform.engine.session import prepare_environment, spark_config
from privacy_platform.policy.load import PolicySet, load_policies
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.tables import Partition
from privacy_platform.synthetic import generate
from privacy_platform.warehouse.connection import Role, connect

PACKAGES = ("pyspark", "polars")
_EVEN, _SKEWED = "even", "skewed"
_LEAST_TASKS, _LEAST_SECONDS = 2, 0.5


class _Task(NamedTuple):
    """A task as Spark logged it."""

    began: float
    stage: int
    seconds: float


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.skew", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.1, help="of the events that are one user's")
    parser.add_argument("--one-session", action="store_true", help="that user has a single session a day")
    parser.add_argument("--processors", type=int, default=os.cpu_count(), help="of the cluster to cut the work for")
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    facts = machine(PACKAGES) | {"cut_for_processors": options.processors}
    with tempfile.TemporaryDirectory(prefix="privacy-platform-") as name, private_home(Path(name)):
        os.environ["PRIVACY_PLATFORM_PARALLELISM"] = str(options.processors)
        bench = _Bench(Path(name), _session(Path(name) / "log"), _policies())
        sources = bench.prepare(options)
        for number in range(options.runs + 1):
            for kind in (_EVEN, _SKEWED) if number % 2 else (_SKEWED, _EVEN):
                bench.run(kind, sources[kind], timed=number > 0)
        bench.spark.stop()
        tasks = _tasks(Path(name) / "log")
    timings = [Timing(f"{step}, {kind}", tuple(s), options.events) for (step, kind), s in bench.seconds.items()]
    ratios = _show(bench, tasks)
    save(options.json, timings, facts | {"ratios": ratios})


def _session(log: Path) -> SparkSession:
    """The platform's session on this machine, with Spark's log of events."""
    log.mkdir()
    prepare_environment()
    builder = SparkSession.builder
    logged = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": log.as_uri(), "spark.eventLog.compress": "false"}
    for key, value in (spark_config() | logged | {"spark.master": f"local[{os.cpu_count()}]"}).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _policies() -> PolicySet:
    """The packaged ones with a budget for as many releases as are timed, and each aggregate of events exact, too."""
    policies = load_policies()
    document = policies.datasets["users"].model_dump(mode="json")
    limits = {"epsilon": 100, "delta": 1e-3, "renews": "never"}
    users = type(policies.datasets["users"]).model_validate(document | {"privacy_budget": {"user_day": limits}})
    of_events = {n: p for n, p in policies.aggregates.items() if p.source == "anonymized_events" and p.is_private}
    aggregates = dict(of_events)
    for name, policy in of_events.items():
        changed = {"mode": "exact_with_minimum", "aggregate": f"{name}_exact", "minimum_group_size": 2}
        aggregates[f"{name}_exact"] = AggregatePolicy.model_validate(policy.model_dump(mode="json") | changed)
    return PolicySet(policies.datasets | {"users": users}, aggregates)


@dataclass
class _Bench:
    """What the measurements share; `seconds` and the spans of time of every step, by step and kind of events."""

    folder: Path
    spark: SparkSession
    policies: PolicySet
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    spans: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    days: list[Partition] = field(default_factory=list)

    def prepare(self, options: argparse.Namespace) -> dict[str, list[Path]]:
        """Generate, release the users, and write the skewed copy: kind → files of events."""
        report = generate(users=options.users, events=options.events, days=options.days,
                          out=self.folder / "data", seed=1, format="parquet")  # fmt: skip
        files = {name: [made.path for made in report.files if made.dataset == name] for name in ("users", "events")}
        users = self.policies.datasets["users"]
        release_raw(lambda: self.spark, users, files["users"], _run())
        release_anonymized(lambda: self.spark, users, self.policies, _run())
        moments = pl.scan_parquet(files["events"]).select(pl.col("timestamp").dt.date().unique()).collect()
        self.days = [Partition(day) for day in sorted(moments["timestamp"])]
        skewed = []
        for file in files["events"]:
            skewed.append(file.with_name(f"skewed_{file.name}"))
            _skewed(pl.read_parquet(file), options.share, options.one_session).write_parquet(skewed[-1])
        return {_EVEN: files["events"], _SKEWED: skewed}

    def run(self, kind: str, files: Sequence[Path], *, timed: bool) -> None:
        """All steps on one kind of events."""
        self._forget()
        events = self.policies.datasets["events"]
        steps: dict[str, Callable[[], object]] = {
            "raw_events": lambda: release_raw(lambda: self.spark, events, files, _run(), selected=self.days),
            "anonymized_events": lambda: release_anonymized(
                lambda: self.spark, events, self.policies, _run(), selected=self.days
            ),
        }
        for name, policy in self.policies.aggregates.items():
            steps[name] = lambda policy=policy: release_aggregate(  # type: ignore[misc]
                lambda: self.spark, policy, self.policies, _run()
            )
        for step, work in steps.items():
            with connect(Role.ADMIN, autocommit=True) as connection:
                connection.execute("CHECKPOINT")
            began, clock = time.time(), time.perf_counter()
            work()
            if timed:
                self.seconds[step, kind].append(time.perf_counter() - clock)
                self.spans[step, kind].append((began, time.time()))

    def _forget(self) -> None:
        tables = [("raw", "raw_events"), ("anonymized", "anonymized_events")]
        tables += [("analytics", name) for name in self.policies.aggregates]
        with connect(Role.ADMIN, autocommit=True) as connection:
            for table in tables:
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(sql.Identifier(*table)))


def _run() -> Run:
    return Run(uuid.uuid4().hex)


def _skewed(events: pl.DataFrame, share: float, one_session: bool) -> pl.DataFrame:
    """The events, a share of whose sessions are those of the first user who has any."""
    session, user = pl.col("session_id"), pl.col("user_id")
    chosen = session.hash(seed=0) % 1000 < int(1000 * share)
    first = pl.lit(events["user_id"].drop_nulls().min())
    changed = events.with_columns(pl.when(chosen).then(first).otherwise(user).alias("user_id"))
    if not one_session:
        return changed
    day = pl.col("timestamp").dt.date().cast(pl.String)
    return changed.with_columns(pl.when(chosen).then("sess_" + day).otherwise(session).alias("session_id"))


def _tasks(log: Path) -> list[_Task]:
    """Every task."""
    found = []
    for line in _lines(log):
        if '"SparkListenerTaskEnd"' in line[:60]:
            event = json.loads(line)
            began, ended = (event["Task Info"][name] / 1000 for name in ("Launch Time", "Finish Time"))
            found.append(_Task(began, event["Stage ID"], ended - began))
    return found


def _lines(log: Path) -> Iterator[str]:
    for path in sorted(log.rglob("*")):
        if path.is_file():
            with path.open(encoding="utf-8") as file:
                yield from file


def _straggling(spans: Sequence[tuple[float, float]], tasks: Sequence[_Task]) -> float | None:
    """The greatest ratio of a stage's longest task to its mean one; None when no stage counts."""
    stages: dict[int, list[float]] = defaultdict(list)
    for task in tasks:
        if any(first <= task.began <= last for first, last in spans):
            stages[task.stage].append(task.seconds)
    counting = [s for s in stages.values() if len(s) >= _LEAST_TASKS and max(s) >= _LEAST_SECONDS]
    return max((max(s) / statistics.mean(s) for s in counting), default=None)


def _show(bench: _Bench, tasks: Sequence[_Task]) -> Mapping[str, Mapping[str, object]]:
    table = RichTable(title="A tenth of the events one user's, beside the same without")
    headings = ("step", "even s", "skewed s", "ratio", "pairs", "longest / mean task, even", "… skewed")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "step" else "right")
    ratios: dict[str, Mapping[str, object]] = {}
    for step in dict.fromkeys(step for step, _ in bench.seconds):
        even, skewed = (bench.seconds[step, kind] for kind in (_EVEN, _SKEWED))
        pairs = paired(skewed, even)
        worst = {kind: _straggling(bench.spans[step, kind], tasks) for kind in (_EVEN, _SKEWED)}
        ratios[step] = {"seconds": statistics.median(pairs), **worst}
        table.add_row(
            step,
            *(f"{statistics.median(each):.2f}" for each in (even, skewed)),
            f"{statistics.median(pairs):.2f}",
            " ".join(f"{pair:.2f}" for pair in pairs),
            *("–" if w is None else f"{w:.2f}" for w in worst.values()),
        )
    Console(width=140).print(table)
    return ratios


if __name__ == "__main__":
    main()

"""How fast do users get from a file to the analysts' table, and how does that compare with other ways?

One run on one machine measures, on the same JSON lines and into PostgreSQL servers with the same settings:

* the **stage**: our reader, the policy's kernels and COPY, by Spark on a warm session (`peers.our_stage`);
* **DuckDB** doing the same transformation and load (`peers.duckdb_users`), in turns with the stage;
* the **whole job**: `release_raw` and `release_anonymized`, with sealing, vault, leak scan, checks, keys,
  quarantine, lineage, audit and publishing, at fixed levels of generalization (what a search for them and its proof
  cost: `benchmarks.anonymous_release`); the memory of all processes is sampled in one more run of it;
* the **usual design**: `spark.read.json`, row-at-a-time Python functions, JDBC (`peers.row_udfs`), on fewer rows;
* the **floor**: a bare binary COPY of the finished rows in one connection.

Everything happens in a temporary home with an embedded server of its own, which is removed at the end. Targets are
printed beside the figures and never asserted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from psycopg import sql
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.common import MOVING_ROWS, Timing, machine, save, show
from benchmarks.peers import duckdb_users, our_stage, tables
from benchmarks.peers.fixed_levels import fixed_users
from benchmarks.peers.memory import MemorySampler
from privacy_platform import settings
from privacy_platform.engine.gate import GateError, Run
from privacy_platform.engine.release_anonymized import release_anonymized
from privacy_platform.engine.release_raw import release_raw
from privacy_platform.engine.session import spark_session
from privacy_platform.policy.compile import anonymized_table, raw_table
from privacy_platform.policy.load import PACKAGED, PolicySet, load_policies
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.synthetic import generate
from privacy_platform.vault.keyring import ensure_keyring
from privacy_platform.warehouse import embedded
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.migrations import ensure_warehouse

_DUCKDB, _FLOOR, _UDF = "bench_duckdb", "bench_floor", "bench_udf"
_WARM_UP_ROWS = 20_000
# The ways of the usual design: pickled rows are how the values of row UDFs travelled before Arrow.
USUAL = {
    "pickled": "usual design, pickled rows",
    "insert": "usual design, values as Arrow",
    "rewritten": "usual design, as Arrow, rewritten batches",
}
_PLATFORM = "PRIVACY_PLATFORM_"
# Hashes and tokens differ by their keys; everything else must be the same in every way of doing it.
_HASHED = ("user_token", "email_hash", "first_name_hash", "last_name_hash", "anonymized_at")


@dataclass(frozen=True, slots=True)
class Target:
    """A figure beside what it was meant to be."""

    name: str
    value: float | None
    limit: float
    at_most: bool
    pairs: tuple[float, ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether the figure is as good as it was meant to be; None when it was not measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def as_json(self) -> dict[str, Any]:
        """Plain values for a results file."""
        return {**asdict(self), "met": self.met}


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """The ratio of each pair of neighbouring runs: what else the machine did then slowed both."""
    return tuple(a / b for a, b in zip(ours, theirs, strict=True))


@dataclass
class Seconds:
    """The seconds of every run, by what was run."""

    of: dict[str, list[float]] = field(default_factory=dict)

    def time(self, name: str, run: Callable[[], object]) -> None:
        """Run once, after PostgreSQL has written down what others left it to write."""
        with connect(Role.ADMIN, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        begin = time.perf_counter()
        run()
        self.of.setdefault(name, []).append(time.perf_counter() - begin)


@dataclass(frozen=True)
class Bench:
    """What all measurements need."""

    spark: SparkSession
    policies: PolicySet
    users: DatasetPolicy
    file: Path
    rows: int

    @property
    def cities(self) -> Path:
        """The packaged hierarchy of cities."""
        return PACKAGED / "hierarchies" / "city.csv"

    def stage(self, seconds: Seconds) -> str:
        """Ours, the stage; returns the table it filled."""
        release = our_stage.prepare(self.users)
        staged: list[int] = []
        seconds.time("ours, stage", lambda: staged.append(our_stage.load(self.spark, self.users, release, [self.file])))
        self._complete("ours, stage", staged[0])
        return release.staging

    def duckdb(self, seconds: Seconds) -> str:
        """DuckDB; returns the table it filled."""
        tables.create(anonymized_table(self.users), _DUCKDB)
        seconds.time("DuckDB + ADBC", lambda: duckdb_users.load(self.file, self.cities, _DUCKDB))
        self._complete("DuckDB", tables.count(_DUCKDB))
        return _DUCKDB

    def whole(self, seconds: Seconds) -> None:
        """Ours, the whole job, into an empty warehouse; removes what it has published."""
        begin = [time.perf_counter()]

        def both() -> None:
            release_raw(lambda: self.spark, self.users, [self.file], Run(uuid.uuid4().hex))
            begin.append(time.perf_counter())
            release_anonymized(lambda: self.spark, self.users, self.policies, Run(uuid.uuid4().hex))
            begin.append(time.perf_counter())

        seconds.time("ours, the whole job", both)
        total = seconds.of["ours, the whole job"][-1]
        anonymized = begin[2] - begin[1]
        seconds.of.setdefault("  of it release_raw", []).append(total - anonymized)
        seconds.of.setdefault("  of it release_anonymized", []).append(anonymized)
        self.forget()

    def forget(self) -> None:
        """Leave the warehouse as empty as it was."""
        with connect(Role.ADMIN, autocommit=True) as connection:
            for table in (anonymized_table(self.users), raw_table(self.users)):
                name = sql.Identifier(table.zone, table.name)
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(name))
            connection.execute("TRUNCATE vault.subjects")

    def floor(self, seconds: Seconds, source: str, runs: int) -> None:
        """COPY the finished rows of `source` again."""
        finished = tables.fetch(source)
        for _ in range(runs):
            tables.create(anonymized_table(self.users), _FLOOR)
            seconds.time("floor: bare COPY", lambda: tables.copy_bare(_FLOOR, finished.to_batches()))
        tables.create(anonymized_table(self.users), _FLOOR)

    def _complete(self, who: str, rows: int) -> None:
        if rows != self.rows:
            raise SystemExit(f"{who} loaded {rows} of {self.rows} rows: its time means nothing")


@contextmanager
def private_home(folder: Path) -> Iterator[Path]:
    """A home of its own with an embedded server of its own; both are gone afterwards."""
    home = folder / "home"
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_PLATFORM)}
    os.environ[settings.HOME_VARIABLE] = str(home)
    try:
        ensure_warehouse()
        ensure_keyring()
        yield home
    finally:
        if home.exists():
            embedded.stop(home)
        os.environ.pop(settings.HOME_VARIABLE, None)
        os.environ.update(kept)


def head(source: Path, target: Path, rows: int) -> Path:
    """The first lines of a file."""
    with source.open("rb") as lines, target.open("wb") as out:
        for _, line in zip(range(rows), lines, strict=False):
            out.write(line)
    return target


def usual_design(bench: Bench, file: Path, runs: int) -> Mapping[str, Sequence[float]] | None:
    """Seconds of the usual design by way of inserting, from a process of its own; None if it could not run."""
    tables.create(anonymized_table(bench.users), _UDF)
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers.row_udfs",
        str(file),
        str(bench.cities),
        _UDF,
        "--runs",
        str(runs),
    ]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        answer: Mapping[str, Sequence[float]] = json.loads(ended.stdout.splitlines()[-1])
        return answer
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None


def measured(
    options: argparse.Namespace, folder: Path, home: Path
) -> tuple[list[Timing], list[Target], dict[str, Any]]:
    """Everything, in order: timings, targets, and what else was noted."""
    file = _landed(options.users, folder)
    begin = time.perf_counter()
    bench = Bench(spark_session(), load_policies(), fixed_users(), file, options.users)
    session_seconds = time.perf_counter() - begin
    server = embedded.status(home)
    try:
        few = Bench(bench.spark, bench.policies, bench.users, head(file, folder / "few.jsonl", _WARM_UP_ROWS),
                    min(_WARM_UP_ROWS, options.users))  # fmt: skip
        begin = time.perf_counter()
        few.stage(Seconds())
        few.duckdb(Seconds())
        with suppress(GateError):  # so few may not be enough for the policy's k
            few.whole(Seconds())
        few.forget()
        warm_up_seconds = time.perf_counter() - begin
        seconds, filled = Seconds(), {}
        for turn in range(options.runs):
            for name in ("stage", "duckdb") if turn % 2 == 0 else ("duckdb", "stage"):
                filled[name] = getattr(bench, name)(seconds)
        columns = [c.name for c in anonymized_table(bench.users).columns if c.name not in _HASHED]
        different = tables.differences(filled["stage"], filled["duckdb"], columns)
        bench.floor(seconds, filled["duckdb"], options.runs)
        our_stage.prepare(bench.users)  # gives back the room
        for _ in range(options.whole_runs):
            bench.whole(seconds)
            bench.duckdb(seconds)
        with MemorySampler([os.getpid(), server.pid if server else os.getpid()]) as memory:
            bench.whole(Seconds())
    finally:
        bench.spark.stop()
    udf_file = head(file, folder / "udf.jsonl", min(options.rows_udf, options.users))
    usual = usual_design(bench, udf_file, options.runs) if options.rows_udf else None
    timings = [Timing(name, tuple(times), options.users) for name, times in seconds.of.items()]
    udf_rows = min(options.rows_udf, options.users)
    for name, label in USUAL.items():
        timings += [Timing(label, tuple(usual[name]), udf_rows)] if usual else []
    facts = {
        "session_start_seconds": round(session_seconds, 1),
        "warm_up_seconds": round(warm_up_seconds, 1),
        "rows_not_as_duckdb": different,
        "peak_memory_mb": round(memory.peak / 1e6),
        "peak_memory_parts_mb": {name: round(size / 1e6) for name, size in memory.parts.items()},
        "peak_memory_measure": "proportional set size" if memory.proportional else "resident set size",
        "memory_sampling_seconds": round(memory.seconds, 1),
        "file_mb": round(file.stat().st_size / 1e6),
    }
    return timings, targets(seconds, timings, memory.peak, options.runs), facts


def _landed(users: int, folder: Path) -> Path:
    report = generate(users=users, events=0, out=folder / "landing", seed=1)
    return next(made.path for made in report.files if made.dataset == "users")


def targets(seconds: Seconds, timings: Sequence[Timing], peak: int, runs: int) -> list[Target]:
    """The figures that have a target."""
    by_name = {timing.name: timing for timing in timings}
    stage, duckdb, whole = (seconds.of[n] for n in ("ours, stage", "DuckDB + ADBC", "ours, the whole job"))
    to_duckdb = paired(stage, duckdb[:runs])
    whole_to_duckdb = paired(whole, duckdb[runs:])
    faster = {
        name: by_name["ours, stage"].rate / by_name[name].rate if name in by_name else None for name in USUAL.values()
    }
    return [
        Target("ours, stage: time / DuckDB's", statistics.median(to_duckdb), 1.0, True, to_duckdb),
        *(Target(f"ours, stage: times faster a row than {name}", times, 15, False) for name, times in faster.items()),
        Target("ours, the whole job: time / DuckDB's", statistics.median(whole_to_duckdb), 2.5, True, whole_to_duckdb),
        Target("peak memory of the whole job, all processes, GiB", peak / 2**30, 6.0, True),
    ]


def show_targets(figures: Sequence[Target]) -> None:
    """Print the figures beside what they were meant to be."""
    table = RichTable(title="Against the targets")
    for heading in ("figure", "measured", "target", "met", "pair by pair"):
        table.add_column(heading, justify="left" if heading in ("figure", "pair by pair") else "right")
    for figure in figures:
        table.add_row(
            figure.name,
            "not measured" if figure.value is None else f"{figure.value:.2f}",
            f"{'≤' if figure.at_most else '≥'} {figure.limit:g}",
            {True: "yes", False: "no", None: "–"}[figure.met],
            " ".join(f"{ratio:.2f}" for ratio in figure.pairs),
        )
    Console().print(table)


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.users_end_to_end", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--rows-udf", type=int, default=20_000, help="rows of the usual design; 0 leaves it out")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--whole-runs", type=int, default=2, help="runs of the whole job beside the memory run")
    options = parser.parse_args()
    if options.runs < 1 or options.whole_runs < 1:
        parser.error("--runs and --whole-runs must be at least 1")
    facts = machine(MOVING_ROWS)
    with tempfile.TemporaryDirectory(prefix="privacy-platform-") as name, private_home(Path(name)) as home:
        timings, figures, noted = measured(options, Path(name), home)
        # Before the home is taken down: should that fail, the figures are there.
        facts = {**noted, **facts}
        show("Users, from JSON lines to PostgreSQL", timings, facts)
        show_targets(figures)
        save(options.json, timings, {"targets": [figure.as_json() for figure in figures], **facts})


if __name__ == "__main__":
    main()

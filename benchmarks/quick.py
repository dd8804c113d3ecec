"""Has anything become slower? A small, fixed set of ratios beside the committed ones, in less than three minutes.

    make bench-quick [BENCH_ARGS=--save]

100,000 users and 1,000,000 events go through the row path and the exact aggregates, once, in a fresh session; DuckDB
does its part on the same files (`benchmarks.measuring.peers`), and the users' stage and DuckDB are run in turns
(`benchmarks.users_end_to_end`). Ratios travel better between machines than seconds do, but not well: the table says so
when the committed ones are of another machine. No figure makes it fail.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from pyspark.sql import SparkSession

from benchmarks.common import machine
from benchmarks.measuring.markdown import table
from benchmarks.measuring.meter import Meter
from benchmarks.measuring.peers import compared
from benchmarks.measuring.results import RunResult
from benchmarks.measuring.running import measured, session
from benchmarks.measuring.stages import Landing, aggregate_stages, land, row_stages
from benchmarks.peers.fixed_levels import fixed_users
from benchmarks.users_end_to_end import Bench, Seconds, paired, private_home
from privacy_platform.policy.load import load_policies

COMMITTED = Path(__file__).with_name("quick.json")
PACKAGES = ("pyspark", "polars", "duckdb", "adbc-driver-postgresql", "pgpq", "psycopg", "pyarrow")
STAGE = "stage / DuckDB, users"
_NOTEWORTHY = 0.15
"""Pairs of the same code differ by so much."""


class Quick(BaseModel):
    """What is committed: ratios, the seconds they are made of, where they were measured, and a note on them."""

    model_config = ConfigDict(frozen=True)

    users: int
    events: int
    machine: Mapping[str, Any]
    ratios: Mapping[str, float]
    seconds: Mapping[str, float]
    note: str = ""


def main() -> None:
    """Measure, print beside the committed figures, and save if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quick", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3, help="pairs of the users' stage and DuckDB")
    parser.add_argument("--save", action="store_true", help="renew the committed figures")
    options = parser.parse_args()
    begin = time.monotonic()
    now = _measured(options)
    before = Quick.model_validate_json(COMMITTED.read_text(encoding="utf-8")) if COMMITTED.exists() else None
    sys.stdout.write(f"\n{shown(before, now)}\n\n{time.monotonic() - begin:.0f} s in all.\n")
    if options.save:
        text = json.dumps(now.model_dump(mode="json"), indent=2, ensure_ascii=False)
        COMMITTED.write_text(text + "\n", encoding="utf-8")


def _measured(options: argparse.Namespace) -> Quick:
    facts = machine(PACKAGES)
    result = RunResult(users=options.users, events=options.events, days=30, format="jsonl", machine=facts)

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    with tempfile.TemporaryDirectory(prefix="privacy-platform-") as name, private_home(Path(name)) as home:
        meter = Meter(home, Path(name), say=say)
        landing = land(options.users, options.events, 30, "jsonl", Path(name) / "landing")
        spark, _, _ = session()
        try:
            aggregates = [stage for stage in aggregate_stages(spark, landing) if stage.part == "exact"]
            result = measured(result, [*row_stages(spark, landing, keep_files=True), *aggregates], meter)
            result = compared(result, landing, meter, polars=False)
            stage = _stage(spark, landing, options.runs)
        finally:
            spark.stop()
    return figures(result, {STAGE: stage})


def figures(result: RunResult, more: Mapping[str, float]) -> Quick:
    """What is kept of a run: its ratios but for their parts, and the seconds of what has ended."""
    ratios = {r.name: r.value for r in result.ratios if r.value is not None and not r.name.startswith("  ")}
    ended = [s for s in (*result.stages, *result.peers) if not s.error and s.part in ("rows", "exact", "peers")]
    return Quick(
        users=result.users,
        events=result.events,
        machine=result.machine,
        ratios={**ratios, **more},
        seconds={s.name: s.seconds for s in ended},
    )


def _stage(spark: SparkSession, landing: Landing, runs: int) -> float:
    """The users' stage over DuckDB, the median of pairs after a first one that warms up."""
    bench = Bench(spark, load_policies(), fixed_users(), landing.files["users"][0], landing.users)
    seconds = Seconds()
    for turn in range(runs + 1):
        for run in (bench.stage, bench.duckdb) if turn % 2 == 0 else (bench.duckdb, bench.stage):
            run(seconds)
    ours, theirs = (seconds.of[name][1:] for name in ("ours, stage", "DuckDB + ADBC"))
    return round(statistics.median(paired(ours, theirs)), 2)


def shown(before: Quick | None, now: Quick) -> str:
    """Ratios and seconds now beside those committed, with the change."""
    parts = [_table("ratio of seconds", before.ratios if before else {}, now.ratios)]
    if before is None:
        parts.append("Nothing is committed yet: --save writes it.")
    elif before.note:
        parts.append(f"The committed figures: {before.note}")
    if before and (before.users, before.events) != (now.users, now.events):
        parts.append(f"The committed figures are of {before.users:,} users and {before.events:,} events.")
    elif before and (elsewhere := _differences(before.machine, now.machine)):
        parts.append(
            f"The committed figures were measured elsewhere ({elsewhere}): ratios tell little, seconds nothing."
        )
    parts.append(_table("seconds", before.seconds if before else {}, now.seconds))
    load = now.machine.get("load_at_start", 0.0)
    if load > (os.cpu_count() or 1) / 2:
        parts.append(f"Others were using the machine (load {load} at the start).")
    return "\n\n".join(parts)


def _table(what: str, before: Mapping[str, float], now: Mapping[str, float]) -> str:
    rows = []
    for name in dict.fromkeys([*now, *before]):
        old, new = before.get(name), now.get(name)
        rows.append([name, _figure(old), _figure(new), _change(old, new)])
    return table([what, "committed", "now", "change"], rows)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _change(old: float | None, new: float | None) -> str:
    if not old or new is None:
        return "–"
    change = new / old - 1
    mark = " slower" if change > _NOTEWORTHY else " faster" if change < -_NOTEWORTHY else ""
    return f"{change:+.0%}{mark}"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of the machine and versions is another, but for how busy it was and a rounding of its memory."""
    names = [name for name in now if name not in ("load_at_start", "memory_gb", "system")]
    return ", ".join(
        f"{name} {before.get(name)} and now {now[name]}" for name in names if before.get(name) != now[name]
    )


if __name__ == "__main__":
    main()

"""What does the whole pipeline cost, stage by stage, and how does that grow?

    python -m benchmarks.pipeline --users 1000000 --events 10000000 --peers --json FILE
    python -m benchmarks.pipeline --compare FILE... [--images docs/images] [--docs docs/benchmarks.md]

A run generates users and events, lands both (`raw_users`, `raw_events`), anonymizes both under the packaged policies,
and releases all packaged aggregates, exact and differentially private, in a temporary home with an embedded server of
its own. Of every stage: seconds, rows a second, processor seconds by group of processes, the highest memory of all
processes, bytes in the database, write-ahead log. In the end every row is accounted for, counted in the database anew.
The session's start and its first task are measured apart. The file of `--json` is written after every stage, and a
stage that fails does not end the run.

With `--peers`, other ways of doing the same work follow on the same files and into the same server: see
`benchmarks.measuring.peers`. Files are removed as soon as they have landed, but for peers.

Disk, JSON lines: about 0.42 GB a million rows for the files, and 1.8 GB a million events in the database at the worst
moment; `disk` in the results is what was really used.

`--compare` measures nothing: it prints the tables of one or more results as Markdown, draws the plots, and, with
`--docs`, puts the tables between the marks in that file.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import MOVING_ROWS, machine
from benchmarks.measuring import markdown, plots
from benchmarks.measuring.meter import Meter
from benchmarks.measuring.peers import compared
from benchmarks.measuring.results import RunResult, load, save
from benchmarks.measuring.running import measured, session
from benchmarks.measuring.stages import Landing, aggregate_stages, balances, land, row_stages, table_sizes
from benchmarks.users_end_to_end import private_home

PACKAGES = (*MOVING_ROWS, "opendp")


def main() -> None:
    """Parse the arguments, then measure or compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the results to this file too, after every stage")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--format", choices=("jsonl", "csv", "parquet"), default="jsonl")
    parser.add_argument("--peers", action="store_true", help="measure other ways on the same files too (JSON lines)")
    parser.add_argument("--jdbc-events", type=int, default=1_000_000, help="events of the JDBC peer; 0 leaves it out")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--compare", type=Path, nargs="+", metavar="FILE", help="results to print instead of measuring")
    parser.add_argument("--images", type=Path, help="with --compare: the folder to draw the plots into")
    parser.add_argument("--docs", type=Path, help="with --compare: the file to put the tables into")
    options = parser.parse_args()
    if options.compare:
        _compare(options)
        return
    if options.peers and options.format != "jsonl":
        parser.error("--peers read JSON lines: leave out --format")
    if min(options.users, options.events, options.days) < 1:
        parser.error("--users, --events and --days must be at least 1")
    result = _run(options)
    sys.stdout.write("\n" + markdown.of_run(result) + "\n")
    save(options.json, result)
    if not result.complete:
        raise SystemExit("The run is not complete, or rows are missing: its figures mean little.")


def _run(options: argparse.Namespace) -> RunResult:
    begin = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - begin:6.0f} s] {text}\n")
        sys.stderr.flush()

    def keep(done: RunResult) -> None:
        save(options.json, done)

    result = RunResult(
        users=options.users, events=options.events, days=options.days, format=options.format, machine=machine(PACKAGES)
    )
    with (
        tempfile.TemporaryDirectory(prefix="privacy-platform-", dir=options.folder) as name,
        private_home(Path(name)) as home,
    ):
        meter = Meter(home, Path(name), say=say)
        made: list[Landing] = []
        rows: int = options.users + options.events

        def generate() -> int:
            made.append(land(options.users, options.events, options.days, options.format, Path(name) / "landing"))
            return rows

        generated = meter.measure("generate", "generate", rows, generate)
        if not made:
            return result.model_copy(update={"stages": (generated,)})
        landing = made[0]
        spark, started, first = session()
        say(f"session started in {started:.1f} s, its first task took {first:.1f} s")
        result = result.model_copy(
            update={
                "stages": (generated,),
                "session_seconds": round(started, 1),
                "first_task_seconds": round(first, 1),
                "files": {dataset: landing.size(dataset) for dataset in landing.files},
            }
        )
        try:
            stages = row_stages(spark, landing, keep_files=options.peers) + aggregate_stages(spark, landing)
            result = measured(result, stages, meter, keep=keep)
            sizes = table_sizes()
            accounts = balances(landing, result.stages, {size.name: size.rows for size in sizes})
            result = result.model_copy(update={"tables": tuple(sizes), "balances": tuple(accounts)})
            save(options.json, result)
            if options.peers:
                result = compared(result, landing, meter, jdbc_events=options.jdbc_events, keep=keep)
        finally:
            spark.stop()
    complete = result.reconciled and not any(stage.error for stage in result.stages)
    facts = {**result.facts, "sampling_cpu_seconds": round(meter.sampling_seconds, 1)}
    return result.model_copy(update={"complete": complete, "facts": facts})


def _compare(options: argparse.Namespace) -> None:
    runs = load(options.compare)
    text = markdown.of_runs(runs, images=_from(options.docs, options.images))
    sys.stdout.write(text + "\n")
    if options.images:
        plots.draw(runs, options.images)
    if options.docs:
        markdown.put(options.docs, text)


def _from(document: Path | None, images: Path | None) -> str | None:
    """The folder of the plots as a document beside or above it names it."""
    if images is None:
        return None
    try:
        return images.resolve().relative_to((document or images).resolve().parent).as_posix()
    except ValueError:
        return images.as_posix()


if __name__ == "__main__":
    main()

"""What do inputs of unusual size or shape take, in time and memory?

Each case is landed (and, where it says so, anonymized) into an embedded server in a temporary home, which is removed at
the end; the memory of all processes together is sampled meanwhile. Sizes are arguments:

* `file`: one JSON Lines file of `--gigabytes`, in lines of 2 kB;
* `files`: `--files` JSON Lines files of ten lines each;
* `line`: a file with two records and between them one line of `--megabytes`; and the same, gzipped;
* `short`: a gzip file of `--megabytes` of lines that are `{}` and nothing else;
* `day`: `--rows` events of a single day in one Parquet file, anonymized, too;
* `columns`: 20,000 records of `--columns` fields, anonymized, too.
"""

import argparse
import gzip
import json
import os
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.common import machine, save
from benchmarks.peers.memory import MemorySampler
from benchmarks.users_end_to_end import private_home
from privacy_platform.engine.gate import ReleaseReport, Run
from privacy_platform.engine.release_anonymized import release_anonymized
from privacy_platform.engine.release_raw import release_raw
from privacy_platform.engine.session import spark_session
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.load import PolicySet, load_policies
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.tables import WHOLE, Partition
from privacy_platform.synthetic import generate
from privacy_platform.warehouse import embedded

PACKAGES = ("pyspark", "polars", "pyarrow", "adbc-driver-postgresql", "pgpq", "psycopg")
_SUBJECTS = 50_000
_NOTE = "A note of some length that says the same in every record, since it is not what is looked at here. " * 19


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step of a case took, and how it ended."""

    case: str
    step: str
    input_mb: float
    rows: int
    quarantined: int
    seconds: float
    peak_mb: int
    parts_mb: dict[str, int]
    ended: str = ""


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bounded", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("cases", nargs="*", help="which cases; all if none is named")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=1_000)
    options = parser.parse_args()
    cases = {name: globals()[f"_case_{name}"] for name in ("file", "files", "line", "short", "day", "columns")}
    if unknown := set(options.cases) - set(cases):
        parser.error(f"no case {min(unknown)}; there are {', '.join(cases)}")
    facts = machine(PACKAGES)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="privacy-platform-") as name, private_home(Path(name)) as home:
        bench = _Bench(spark_session(), Path(name) / "data", home)
        bench.folder.mkdir()
        bench.warm_up()
        for case in options.cases or cases:
            for outcome in cases[case](bench, options):
                outcomes.append(outcome)
                print(outcome, flush=True)
        bench.spark.stop()
    _show(outcomes)
    save(options.json, (), facts | {"outcomes": [asdict(outcome) for outcome in outcomes]})


@dataclass(frozen=True)
class _Bench:
    """What all cases share."""

    spark: SparkSession
    folder: Path
    home: Path

    def warm_up(self) -> None:
        """Start what the first release of a session starts."""
        path = self.folder / "warm.jsonl"
        path.write_bytes(b"".join(_record(number) for number in range(1000)))
        release_raw(lambda: self.spark, _bulk("warm"), [path], Run(uuid.uuid4().hex))

    def land(
        self, case: str, policy: DatasetPolicy, files: Sequence[Path], days: Sequence[Partition] = (WHOLE,)
    ) -> Outcome:
        """Land files, which are removed after it."""
        size = sum(file.stat().st_size for file in files)
        outcome = self._step(
            case,
            "raw",
            size,
            lambda: release_raw(lambda: self.spark, policy, files, Run(uuid.uuid4().hex), selected=days),
        )
        for file in files:
            file.unlink()
        return outcome

    def anonymize(
        self, case: str, policy: DatasetPolicy, policies: PolicySet, days: Sequence[Partition] = (WHOLE,)
    ) -> Outcome:
        """Anonymize what has landed."""
        return self._step(
            case,
            "anonymized",
            0,
            lambda: release_anonymized(lambda: self.spark, policy, policies, Run(uuid.uuid4().hex), selected=days),
        )

    def _step(self, case: str, step: str, size: int, work: Callable[[], ReleaseReport]) -> Outcome:
        server = embedded.status(self.home)
        report, ended = None, "published"
        begin = time.perf_counter()
        with MemorySampler([os.getpid(), server.pid if server else os.getpid()], every=0.5) as memory:
            try:
                report = work()
            except PrivacyPlatformError as error:
                ended = str(error)[:200]
        seconds = time.perf_counter() - begin
        parts = {name: round(part / 1e6) for name, part in memory.parts.items()}
        return Outcome(
            case,
            step,
            round(size / 1e6, 1),
            report.rows if report else 0,
            report.statistics.get("quarantined", 0) if report else 0,
            round(seconds, 1),
            round(memory.peak / 1e6),
            parts,
            ended,
        )


def _bulk(name: str) -> DatasetPolicy:
    """A dataset of notes of people, most of a record in clear and so compressed by PostgreSQL."""
    common = {"comment": "c"}
    fields: dict[str, Any] = {
        "number": {"type": "string", "sensitivity": "none", "technique": "keep", **common},
        "id": {"type": "string", "pii": "user_id", "sensitivity": "high", "technique": "tokenize", "output": "token"},
        "email": {"type": "string", "pii": "email", "sensitivity": "high", "technique": "hmac", "output": "email_hash"},
        "note": {"type": "string", "sensitivity": "none", "technique": "suppress", **common},
    }
    document = {"dataset": name, "description": "Notes.", "source": {"files": ["*"]}, "subject": "id", "key": "number"}
    return DatasetPolicy.model_validate(document | {"fields": {n: common | f for n, f in fields.items()}})


def _record(number: int) -> bytes:
    person = number % _SUBJECTS
    return b'{"number":"n%d","id":"person-%d","email":"given%d@example.org","note":"%d %s"}\n' % (
        number, person, person, number, _NOTE.encode(),
    )  # fmt: skip


def _case_file(bench: _Bench, options: argparse.Namespace) -> Iterator[Outcome]:
    path = bench.folder / "bulk.jsonl"
    size = number = 0
    with path.open("wb") as file:
        while size < options.gigabytes * 1e9:
            size += file.write(b"".join(map(_record, range(number, number + 1000))))
            number += 1000
    yield bench.land(f"one file of {options.gigabytes:g} GB, {number:,} lines", _bulk("bulk"), [path])


def _case_files(bench: _Bench, options: argparse.Namespace) -> Iterator[Outcome]:
    folder = bench.folder / "files"
    folder.mkdir()
    files = [folder / f"{number:06d}.jsonl" for number in range(options.files)]
    for number, path in enumerate(files):
        path.write_bytes(
            b"".join(
                b'{"number":"n%d","id":"person-%d","email":"given%d@example.org","note":"short"}\n' % (n, n, n)
                for n in range(10 * number, 10 * number + 10)
            )
        )
    yield bench.land(f"{options.files:,} files of ten lines", _bulk("tiny"), files)


def _case_line(bench: _Bench, options: argparse.Namespace) -> Iterator[Outcome]:
    for suffix in ("jsonl", "jsonl.gz"):
        path = bench.folder / f"line.{suffix}"
        with gzip.open(path, "wb", 1) if suffix.endswith("gz") else path.open("wb") as file:
            file.write(_record(1) + b'{"number":"n2","note":"')
            for _ in range(options.megabytes):
                file.write(b"0123456789abcdef" * 2**16)
            file.write(b'"}\n' + _record(3))
        yield bench.land(
            f"one line of {options.megabytes} MB, .{suffix}", _bulk(f"line_{suffix[6:] or 'plain'}"), [path]
        )


def _case_short(bench: _Bench, options: argparse.Namespace) -> Iterator[Outcome]:
    path = bench.folder / "short.jsonl.gz"
    with gzip.open(path, "wb", 6) as file:
        for _ in range(options.megabytes):
            file.write(b"{}\n" * (2**20 // 3))
    yield bench.land(f"gzip of {options.megabytes} MB of lines `{{}}`", _bulk("short"), [path])


def _case_day(bench: _Bench, options: argparse.Namespace) -> Iterator[Outcome]:
    policies = load_policies()
    report = generate(users=100_000, events=options.rows, days=1, out=bench.folder / "day", seed=1, format="parquet")
    files = {name: [made.path for made in report.files if made.dataset == name] for name in ("users", "events")}
    users, events = policies.datasets["users"], policies.datasets["events"]
    bench.land("users", users, files["users"])
    bench.anonymize("users", users, policies)
    moments = pl.scan_parquet(files["events"]).select(pl.col("timestamp").dt.date().unique()).collect()["timestamp"]
    days = [Partition(day) for day in sorted(moments)]
    case = f"{options.rows:,} events of {len(days)} day"
    yield bench.land(case, events, files["events"], days)
    yield bench.anonymize(case, events, policies, days)


def _case_columns(bench: _Bench, options: argparse.Namespace) -> Iterator[Outcome]:
    """Half whole numbers in clear, the rest sealed: bucketed numbers, hashes, and texts that are not published."""
    common = {"comment": "c"}
    kinds: list[tuple[str, dict[str, Any]]] = [
        *[("count", {"type": "integer", "sensitivity": "none", "technique": "keep"})] * 5,
        *[("amount", {"type": "number", "sensitivity": "medium", "technique": {"bucket": {"edges": [0, 10, 20]}}})],
        *[("text", {"type": "string", "sensitivity": "high", "technique": "suppress"})] * 3,
        ("name", {"type": "string", "sensitivity": "high", "technique": "hmac"}),
    ]
    fields: dict[str, Any] = {
        "id": {"type": "string", "pii": "user_id", "sensitivity": "high", "technique": "tokenize", "output": "token"}
    }
    for number in range(options.columns - 1):
        kind, settings = kinds[number % len(kinds)]
        if kind == "name" and number % 20 > 10:
            kind, settings = kinds[-2]
        fields[f"{kind}_{number}"] = settings
    document = {"dataset": "wide", "description": "Wide.", "source": {"files": ["*"]}, "subject": "id", "key": "id"}
    policy = DatasetPolicy.model_validate(document | {"fields": {n: common | f for n, f in fields.items()}})
    draw = random.Random(1)
    values: dict[str, Callable[[], object]] = {
        "count": lambda: draw.randrange(1000),
        "amount": lambda: draw.random() * 30,
        "text": lambda: f"text {draw.randrange(10**9)}",
        "name": lambda: f"name {draw.randrange(10**9)}",
    }
    path = bench.folder / "wide.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(20_000):
            row = {name: values[name.split("_")[0]]() for name in fields if name != "id"}
            file.write(json.dumps({"id": f"person-{number}", **row}) + "\n")
    case = f"20,000 records of {len(fields):,} fields"
    yield bench.land(case, policy, [path])
    yield bench.anonymize(case, policy, PolicySet({"wide": policy}, {}))


def _show(outcomes: Sequence[Outcome]) -> None:
    table = RichTable(title="Inputs of unusual size or shape")
    headings = ("case", "zone", "MB in", "rows", "quarantined", "seconds", "peak MB, all processes", "ended")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("case", "zone", "ended") else "right")
    for o in outcomes:
        numbers = (f"{o.input_mb:,}", f"{o.rows:,}", f"{o.quarantined:,}", f"{o.seconds}", f"{o.peak_mb:,}")
        table.add_row(o.case, o.step, *numbers, o.ended)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()

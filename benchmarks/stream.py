"""How long until an event that is sent can be seen, and how many a second go through?

`--mode stream` (default) measures `privacy-platform stream`; `--mode sensor` the runs that Dagster's sensor starts,
with web server and daemon as `privacy-platform up` runs them. In a home of its own, with embedded PostgreSQL and Kafka:

1. *Lag* at a steady rate: ten times a second the topic's end offsets are noted, and the time until those are published,
   with their windows, since that is one transaction.
2. *Sustained rate* (stream only): a backlog is produced first, then read; the records over the seconds of the batches,
   after a first part that warms up.
3. *Memory* of the process and its children, first and last quarter: while the lag is measured (`--seconds 600` for ten
   minutes), and while the backlog is read (stream only).
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from kafka import TopicPartition
from rich.console import Console

from benchmarks.common import machine
from benchmarks.users_end_to_end import private_home
from privacy_platform.streaming import broker, jars
from privacy_platform.streaming.topics import USER_EVENTS, ensure_topic
from privacy_platform.synthetic import generate
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.offsets import offsets

BIN = Path(sys.executable).parent
USERS = 20_000


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--mode", choices=("stream", "sensor"), default="stream")
    parser.add_argument("--rate", type=int, default=1000, help="events a second while the lag is measured")
    parser.add_argument("--seconds", type=int, default=60, help="for how long the lag is measured")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="events of the sustained rate; 0 leaves it out")
    options = parser.parse_args()
    facts: dict[str, Any] = machine(("confluent-kafka", "kafka-python", "polars", "pyspark")) | {"mode": options.mode}
    os.environ[jars.FOLDER_VARIABLE] = str(jars.folder())
    with tempfile.TemporaryDirectory(prefix="privacy-platform-") as name, private_home(Path(name)) as home:
        _prepare(home)
        ensure_topic(broker.start(home).client)
        try:
            with _streaming() if options.mode == "stream" else _sensing() as read:
                with _Memory(read) as memory:
                    facts |= _lags(home, options.rate, options.seconds)
                facts |= memory.quarters("steady rate")
                if options.backlog and read is not None:
                    facts |= _sustained(read, options.backlog)
        finally:
            broker.stop(home)
    console = Console()
    for key, value in facts.items():
        console.print(f"{key}: {value}", highlight=False)
    if options.json:
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _prepare(home: Path) -> None:
    """Users, landed and published."""
    landing = home / "landing"
    generate(users=USERS, events=0, out=landing, seed=2026)
    (landing / "events.jsonl").unlink(missing_ok=True)
    _run("materialize", "raw_users,anonymized_users")


def _run(*words: str) -> None:
    subprocess.run([str(BIN / "privacy-platform"), *words], check=True, capture_output=True)


def _produce(*words: str) -> "subprocess.Popen[bytes]":
    command = [str(BIN / "privacy-platform"), "produce", *words, "--users", str(USERS)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@dataclass
class _Reading:
    """The streaming process and what it says of its batches, with the time of each."""

    process: "subprocess.Popen[str]"
    batches: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def listen(self) -> None:
        """Take down every batch until the process ends."""
        for line in self.process.stdout or ():
            if line.startswith("{"):
                self.batches.append((time.monotonic(), json.loads(line)))

    def caught_up(self, before: int) -> bool:
        """Whether there is a batch after the first `before`, and nothing left to read."""
        return len(self.batches) > before and self.batches[-1][1]["lag"] == 0

    def memory_mb(self) -> float:
        """Resident memory of the process and its children."""
        parent = psutil.Process(self.process.pid)
        total = 0
        for each in (parent, *parent.children(recursive=True)):
            try:
                total += each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / 1e6


class _Memory:
    """Notes the memory of the streaming process every two seconds of a block."""

    def __init__(self, read: _Reading | None) -> None:
        self._read = read
        self._noted: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._note, daemon=True)

    def _note(self) -> None:
        while self._read is not None and not self._ended.wait(2):
            self._noted.append(self._read.memory_mb())

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def quarters(self, when: str) -> dict[str, Any]:
        """The mean of each quarter of the block, in MB."""
        size = len(self._noted) // 4
        if not size:
            return {}
        means = [round(statistics.mean(self._noted[n * size : (n + 1) * size])) for n in range(4)]
        return {f"memory MB, {when}, by quarter": means}


@contextmanager
def _streaming() -> Iterator[_Reading]:
    command = [str(BIN / "privacy-platform"), "stream", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        read = _Reading(process)
        listener = threading.Thread(target=read.listen, daemon=True)
        listener.start()
        try:
            # Started and warm: what is measured is not the start of a Java machine.
            for _ in range(3):
                before = len(read.batches)
                _produce("--rate", "max", "--events", "5000").wait()
                _until(partial(read.caught_up, before))
            yield read
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)


@contextmanager
def _sensing() -> Iterator[None]:
    command = [str(BIN / "privacy-platform"), "up", "--port", "33990"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(20)
            lines = subprocess.run(
                [str(BIN / "privacy-platform"), "env"], check=True, capture_output=True, text=True
            ).stdout
            script = f'{lines}\nexec "{BIN}/dagster" sensor start stream_lag'
            subprocess.run(["bash", "-c", script], check=True, capture_output=True)
            yield None
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)


def _until(condition: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the stream does not get on")
        time.sleep(0.05)


def _lags(home: Path, rate: int, seconds: int) -> dict[str, Any]:
    """Seconds from the end offsets' being seen until they are published."""
    running = broker.status(home)
    assert running is not None
    noted: list[tuple[float, dict[int, int]]] = []
    lags: list[float] = []
    producer = _produce("--rate", str(rate), "--duration", str(seconds))
    with closing(running.client.consumer()) as consumer, connect(Role.PIPELINE, autocommit=True) as connection:
        partitions = [TopicPartition(USER_EVENTS, number) for number in range(3)]
        deadline = time.monotonic() + seconds + 300
        while (producer.poll() is None or noted) and time.monotonic() < deadline:
            if producer.poll() is None:
                ends = {each.partition: end for each, end in consumer.end_offsets(partitions).items()}
                noted.append((time.monotonic(), ends))
            published = offsets(connection, USER_EVENTS)
            now = time.monotonic()
            done = [sent for sent, ends in noted if all(published.get(n, 0) >= end for n, end in ends.items())]
            lags += [now - sent for sent in done]
            noted = noted[len(done) :]
            time.sleep(0.1)
    lags = lags[len(lags) // 10 :]  # the producer starts
    return {
        "events a second": rate,
        "lag p50 s": round(statistics.median(lags), 2),
        "lag p95 s": round(_quantile(lags, 0.95), 2),
        "lag max s": round(max(lags), 2),
        "never published": len(noted),
    }


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _sustained(read: _Reading, backlog: int) -> dict[str, Any]:
    """The rate at which a backlog is read, and the memory meanwhile."""
    read.process.send_signal(signal.SIGSTOP)  # what is sent lies until all is there
    produced = time.monotonic()
    _produce("--rate", "max", "--events", str(backlog)).wait()
    produced = time.monotonic() - produced
    before = len(read.batches)
    begun = time.monotonic()
    read.process.send_signal(signal.SIGCONT)
    with _Memory(read) as memory:
        _until(partial(read.caught_up, before), seconds=3600)
    batches = read.batches[before:]
    return {
        "backlog": backlog,
        "produced events/s": round(backlog / produced),
        "records/s, all": round(sum(batch["records"] for _, batch in batches) / (batches[-1][0] - begun)),
        "records/s, batch by batch": [round(batch["records"] / batch["seconds"]) for _, batch in batches],
    } | memory.quarters("backlog")


if __name__ == "__main__":
    main()

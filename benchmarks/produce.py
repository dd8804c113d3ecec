"""How many events a second does one producer have acknowledged, on the cores it shares with the broker?

The floor is kafka-python alone sending the same finished messages, callbacks and accounting left out; then the producer
on finished messages, the producer on live events (drawn, stamped and encoded as they are sent), and two such processes.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from benchmarks.common import Timing, machine, measure, peak_memory_bytes, save, show
from privacy_platform.streaming import broker
from privacy_platform.streaming.client import ClientSettings
from privacy_platform.streaming.messages import Message, live
from privacy_platform.streaming.producer import Delivery, produce
from privacy_platform.streaming.topics import ensure_topic

_TOPIC = "benchmark"
_CHUNK = 1_000
_USERS = 20_000


def _chunks(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    return (messages[start : start + _CHUNK] for start in range(0, len(messages), _CHUNK))


def _drawn(events: int) -> Iterator[Message]:
    return islice((message for chunk in live(_USERS, _CHUNK) for message in chunk), events)


def _bare(cluster: ClientSettings, messages: Sequence[Message]) -> None:
    options = {"acks": "all", "compression_type": "lz4", "linger_ms": 20, "batch_size": 256 * 1024}
    producer = cluster.producer(**options)
    for message in messages:
        producer.send(_TOPIC, message.value, message.key)
    producer.flush()
    producer.close()


def _counted(cluster: ClientSettings, chunks: Iterator[Sequence[Message]]) -> None:
    account = produce(Delivery(cluster, _TOPIC), chunks)
    if account.acknowledged != account.accepted:
        raise SystemExit(f"not all acknowledged: {account}")


def _live(cluster: ClientSettings, events: int) -> None:
    _counted(cluster, _chunked(_drawn(events)))


def _chunked(messages: Iterator[Message]) -> Iterator[Sequence[Message]]:
    while chunk := list(islice(messages, _CHUNK)):
        yield chunk


def _processes(home: Path, count: int, events: int) -> None:
    command = [sys.executable, "-m", "benchmarks.produce", "--child", str(home), "--events", str(events // count)]
    running = [subprocess.Popen(command) for _ in range(count)]
    if any([process.wait() for process in running]):
        raise SystemExit("a process failed")


def run(home: Path, events: int, runs: int) -> list[Timing]:
    """Measure against a broker of this home."""
    cluster = broker.start(home).client
    ensure_topic(cluster, _TOPIC)
    messages = list(_drawn(events))
    return [
        measure("floor: kafka-python alone, finished messages", events, lambda: _bare(cluster, messages), runs=runs,
                warm_up=True),
        measure("producer, finished messages", events, lambda: _counted(cluster, _chunks(messages)), runs=runs),
        measure("producer, live events", events, lambda: _live(cluster, events), runs=runs),
        measure("two processes with their start, live events", events, lambda: _processes(home, 2, events), runs=runs),
    ]  # fmt: skip


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.produce", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _live(broker.start(options.child).client, options.events)
        return
    facts = machine(["kafka-python", "lz4", "crc32c"])
    home = Path(tempfile.mkdtemp(prefix="privacy-platform-"))
    try:
        timings = run(home, options.events, options.runs)
    finally:
        broker.stop(home)
        shutil.rmtree(home, ignore_errors=True)
    facts = {"peak_memory_mb": round(peak_memory_bytes() / 1e6), "broker_heap_mb": 512, **facts}
    show("Producing to Kafka", timings, facts)
    save(options.json, timings, facts)


if __name__ == "__main__":
    main()

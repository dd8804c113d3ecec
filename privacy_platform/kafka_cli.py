"""`privacy-platform kafka` and `privacy-platform produce`: the embedded broker, and events for it."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from privacy_platform import settings
from privacy_platform.console import Json, command, err, out, show_json, show_table
from privacy_platform.errors import PrivacyPlatformError

if TYPE_CHECKING:
    from privacy_platform.streaming.broker import Broker
    from privacy_platform.streaming.messages import Message
    from privacy_platform.streaming.producer import Account

kafka_app = typer.Typer(help="The embedded Kafka broker, on 127.0.0.1.", no_args_is_help=True)
produce_app = typer.Typer()
_CHUNK = 1_000
_CHUNKS_PER_SECOND = 20


@command(kafka_app, "up")
def up(
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port on 127.0.0.1; by default the last one, or a free one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the broker and make the topic user-events; what is in it from before is still there."""
    from privacy_platform.streaming import broker, topics

    running = broker.start(settings.home(), port=port)
    topics.ensure_topic(running.client)
    _show(running, as_json)


@command(kafka_app, "down")
def down() -> None:
    """Stop the broker; its topics stay."""
    from privacy_platform.streaming import broker

    stopped = broker.stop(settings.home())
    out.print("Kafka has stopped." if stopped else "Kafka was not running.")


@command(kafka_app, "status")
def status(as_json: Json = False) -> None:
    """Show whether the broker runs, where, and what its topics hold; exit code 1 when it does not run."""
    from privacy_platform.streaming import broker

    running = broker.status(settings.home())
    if running is None:
        show_json({"running": False}) if as_json else out.print("Kafka is not running.")
        raise typer.Exit(1)
    _show(running, as_json)


def _show(running: "Broker", as_json: bool) -> None:
    from privacy_platform.streaming import topics

    held = {name: topics.available(running.client, name) for name in topics.names(running.client)}
    if as_json:
        document = {name: {n: asdict(offsets) for n, offsets in of.items()} for name, of in held.items()}
        servers = running.client.bootstrap_servers
        show_json({"running": True, "bootstrap_servers": servers, "pid": running.pid, "topics": document})
        return
    out.print(f"Kafka: {running.client.bootstrap_servers}   process {running.pid}", highlight=False)
    rows = [
        [name, str(number), f"{offsets.start:,}", f"{offsets.end:,}", f"{offsets.messages:,}"]
        for name, of in held.items()
        for number, offsets in of.items()
    ]
    show_table("Topics", ["topic", "#partition", "#first offset", "#end offset", "#messages"], rows)


@command(produce_app, "produce")
def produce(
    rate: Annotated[str, typer.Option(help="Events a second, or max: as many as Kafka acknowledges.")] = "1000",
    events: Annotated[int | None, typer.Option(min=0, help="Stop after so many events.")] = None,
    duration: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds.")] = None,
    source: Annotated[Path | None, typer.Option("--from", help="A JSON Lines file to send as it is.")] = None,
    topic: Annotated[str, typer.Option(help="The topic; made when it does not exist.")] = "user-events",
    users: Annotated[int, typer.Option(min=1, help="Live events are of user_000001 to this number.")] = 20_000,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same event_ids.")] = None,
    as_json: Json = False,
) -> None:
    """Send events to Kafka and account for each: live ones (nobody in them exists) or those of a file.

    Ends by itself, by Ctrl-C or by SIGTERM, in each case after what was sent is acknowledged. Exit code 1 when an event
    was refused or could not be delivered.
    """
    from privacy_platform.streaming import messages, producer, topics
    from privacy_platform.streaming.cluster import client_settings

    pace = _pace(rate)
    cluster = client_settings()
    topics.ensure_topic(cluster, topic)
    size = _CHUNK if pace is None else max(1, min(_CHUNK, pace // _CHUNKS_PER_SECOND))
    chunks = messages.live(users, size, seed=seed) if source is None else messages.lines(source, size)
    if events is not None:
        chunks = _at_most(chunks, events)
    delivery = producer.Delivery(cluster, topic)
    with _stopping(duration) as stopped, _progress(as_json) as report:
        account = producer.produce(delivery, chunks, rate=pace, stopped=stopped, progress=report)
    if as_json:
        show_json({"topic": topic, **asdict(account)})
    else:
        out.print(
            f"{account.acknowledged:,} of {account.accepted:,} events acknowledged, {account.refused:,} refused, "
            f"{account.undelivered:,} not delivered, {account.resent:,} sent again",
            highlight=False,
        )
    if account.acknowledged < account.accepted:
        raise typer.Exit(1)


def _pace(rate: str) -> int | None:
    if rate == "max":
        return None
    if not rate.isdigit() or int(rate) == 0:
        raise PrivacyPlatformError("--rate must be a whole number of events a second from 1 on, or max.")
    return int(rate)


def _at_most(chunks: "Iterator[list[Message]]", events: int) -> "Iterator[list[Message]]":
    left = events
    while left > 0 and (chunk := next(chunks, None)) is not None:
        yield chunk[:left]
        left -= len(chunk)


@contextmanager
def _stopping(duration: float | None) -> Iterator[Callable[[], bool]]:
    """Whether it is time to end: a signal came, or the duration is over."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    end = math.inf if duration is None else time.monotonic() + duration
    try:
        yield lambda: stop.is_set() or time.monotonic() >= end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(quiet: bool) -> Iterator["Callable[[Account, float], None]"]:
    """A line on stderr: events acknowledged, how many a second, how many wait and for how long."""
    columns = ("{task.completed:,.0f} acknowledged", "{task.fields[rate]:,.0f}/s", "{task.fields[waiting]:,} in flight",
               "lag {task.fields[lag]:.2f} s")  # fmt: skip
    with Progress(*map(TextColumn, columns), TimeElapsedColumn(), console=err, disable=quiet) as progress:
        task = progress.add_task("produce", total=None, rate=0.0, waiting=0, lag=0.0)

        def report(account: "Account", lag: float) -> None:
            fields: dict[str, Any] = {"waiting": account.in_flight, "lag": lag}
            progress.update(task, completed=account.acknowledged, rate=progress.tasks[0].speed or 0.0, **fields)

        yield report

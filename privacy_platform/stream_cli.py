"""The command line of streaming: publish what arrives in a topic, until told to end."""

import json
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from privacy_platform.console import Json, command, err
from privacy_platform.errors import PrivacyPlatformError

if TYPE_CHECKING:
    from privacy_platform.engine.release_stream import StreamReport

stream_app = typer.Typer()


@command(stream_app, "stream")
def stream(
    dataset: Annotated[str, typer.Argument(help="A dataset with a topic.")] = "events",
    limit: Annotated[int, typer.Option(min=1, help="Records in a batch, at the most.")] = 500_000,
    as_json: Json = False,
) -> None:
    """Publish what arrives in a dataset's topic, batch after batch, until SIGTERM or Ctrl-C; the batch is finished."""
    from privacy_platform.engine.session import spark_session
    from privacy_platform.engine.stream import stream as publish
    from privacy_platform.engine.stream import streamed_policy, streaming
    from privacy_platform.policy.load import load_policies
    from privacy_platform.warehouse.migrations import ensure_warehouse

    policies = load_policies()
    policy = streamed_policy(policies, dataset)
    ensure_warehouse()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def published(report: "StreamReport") -> None:
        figures = {
            "records": report.records,
            "lag": report.lag,
            "late": report.late,
            "seconds": round(report.seconds, 2),
            "rows": {table.table.name: table.rows for table in report.tables},
        }
        if as_json:
            sys.stdout.write(json.dumps(figures) + "\n")
            sys.stdout.flush()
        else:
            err.print(f"{report.records:,} records in {report.seconds:.1f} s, {report.lag:,} to go", highlight=False)

    def failed(error: PrivacyPlatformError, delay: float) -> None:
        err.print(f"[bold red]Not published:[/] {escape(str(error))} Next attempt in {delay:.0f} s.", soft_wrap=True)

    with streaming(policy.source.topic or ""):
        spark_session()
        signal.signal(signal.SIGINT, lambda *_: stop.set())  # again: the session has put a handler of its own there
        err.print(f"Streaming {policy.source.topic} into {dataset}", highlight=False)
        publish(spark_session, policy, policies, stop, limit=limit, published=published, failed=failed)

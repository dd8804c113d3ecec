"""Starting what a run needs beside what it does first: a session and its workers take seconds, mostly of waiting."""

from collections import Counter
from contextlib import suppress
from threading import Thread

# What tasks import, and so a worker that has read `_nothing` has imported.
from privacy_platform.engine import anonymize, land  # noqa: F401
from privacy_platform.engine.session import is_local, parallelism, prepare_environment, spark_session
from privacy_platform.engine.stage import Statistics, run_stage


def start_early() -> None:
    """Begin to start this process's session and its workers; whoever asks for the session waits for it.

    Of a local session only: what stands elsewhere is there already. A failure is told to whoever asks for the session.
    """
    if is_local():
        prepare_environment()
        Thread(target=_start, name="early-start", daemon=True).start()


def _start() -> None:
    with suppress(Exception):
        run_stage(spark_session(), range(parallelism()), _nothing)


def _nothing(_: int) -> Statistics:
    return Counter()

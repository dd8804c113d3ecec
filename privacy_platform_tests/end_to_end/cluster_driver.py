"""A driver in a process of its own: `privacy-platform materialize '*'` under whatever master its environment names.

Prints one JSON document: what the command printed, and what tasks found in the workers afterwards.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import typer

from privacy_platform import settings
from privacy_platform.cli import app
from privacy_platform.engine.session import spark_session
from privacy_platform.engine.stage import (
    Piece,
    StageError,
    Statistics,
    kept_pieces,
    kept_stage,
    run_kept,
    run_stage,
)
from privacy_platform.vault.keyring import KEYRING_VARIABLE

VARIABLES = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "SPARK_LOCAL_DIRS")


def where(split: int) -> Statistics:
    """What a worker is given: its home, and some of its environment."""
    time.sleep(0.5)  # long enough that no executor runs all of them
    found = {name: os.environ.get(name, "") for name in VARIABLES}
    found |= {"home": str(settings.home()), "keyring": "variable" if os.environ.get(KEYRING_VARIABLE) else "file"}
    return Counter({json.dumps(found): 1})


def refused(split: str) -> Statistics:
    raise ValueError(f"cannot use {split}")


def kept_once(folder: Path) -> int:
    """How often a split that is kept was computed, when it was asked for three times."""

    def make(split: int) -> Iterator[Piece]:
        (folder / f"computed-{time.time_ns()}").touch()
        yield "a", b"1"

    def use(split: int, pieces: Iterator[Piece]) -> Statistics:
        return Counter(pieces=len(list(pieces)))

    frame = kept_stage(spark_session(), [0], make)
    assert kept_pieces(frame, "a") == [(0, "a", b"1")]
    assert run_kept(frame, ["a"], use) == run_kept(frame, ["a"], use) == [Counter(pieces=1)]
    frame.unpersist()
    marks = list(folder.glob("computed-*"))
    for mark in marks:
        mark.unlink()
    return len(marks)


def failure() -> str:
    try:
        run_stage(spark_session(), ["maria@example.org"], refused)
    except StageError as error:
        return str(error)
    return ""


def main() -> None:
    printed = StringIO()
    with redirect_stdout(printed):
        try:
            app(["materialize", "*", "--json"], standalone_mode=False)
        except typer.Exit as ended:
            sys.stderr.write(f"exit {ended.exit_code}\n{printed.getvalue()}\n")
    found = {"run": json.loads(printed.getvalue())}
    if "--look" in sys.argv:
        places = run_stage(spark_session(), range(4), where)
        found["workers"] = [json.loads(place) for places_ in places for place in places_]
        found["failure"] = failure()
        found["computed"] = kept_once(settings.landing())
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

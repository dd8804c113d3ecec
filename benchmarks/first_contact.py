"""How long does somebody wait who comes to the platform for the first time, and at every command after that?

Each figure is of processes that are started anew, in a home of its own:

* *definitions*: a process that imports and builds what Dagster loads;
* *session*: from asking for a Spark session until its first two tasks are done, with and without the class archive;
* *asset*: `dagster asset materialize --select raw_users`, of 1,000 users, where the home is set up already;
* *demo*: `privacy-platform demo` in an empty home (`first`), and once more (`again`).

Beside the seconds stand those of the processors: on a machine that others use, they change less.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import machine
from benchmarks.measuring.processes import Group, cpu_seconds
from benchmarks.users_end_to_end import private_home
from privacy_platform import settings
from privacy_platform.engine import class_archive
from privacy_platform.synthetic import generate
from privacy_platform.warehouse import embedded

BIN = Path(sys.executable).parent
SMALL = 1_000
_DEFINITIONS = "from privacy_platform.definitions import build_definitions; build_definitions()"
_SESSION = """
import os
from collections import Counter
from privacy_platform.engine import class_archive
if os.environ.get("WITHOUT_ARCHIVE"):
    class_archive.java_options = lambda: ["-Xshare:auto"]
from privacy_platform.engine.session import spark_session
from privacy_platform.engine.stage import run_stage
run_stage(spark_session(), [1, 2], lambda split: Counter(split=split))
"""
Figure = dict[str, Any]


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parts: dict[str, Callable[[int], Iterator[Figure]]] = {
        "definitions": _definitions,
        "session": _session,
        "asset": _asset,
        "demo": _demo,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_contact", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--only", choices=parts, nargs="+", default=list(parts), help="leave the others out")
    parser.add_argument("--runs", type=int, default=3, help="how often each is measured; the demo once")
    options = parser.parse_args()
    facts = machine(("dagster", "pyspark"))
    figures = [figure for part in options.only for figure in parts[part](options.runs)]
    table = Table(title="First contact")
    for heading in ("what", "seconds", "processor seconds"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for figure in figures:
        table.add_row(
            figure["what"],
            " ".join(f"{seconds:.1f}" for seconds in figure["seconds"]),
            ", ".join(f"{group} {seconds:.1f}" for group, seconds in figure["processor"].items()),
        )
    console = Console()
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), highlight=False)
    if options.json:
        options.json.write_text(json.dumps({"figures": figures, **facts}, indent=2) + "\n", encoding="utf-8")


def _definitions(runs: int) -> Iterator[Figure]:
    yield _measured("definitions", [sys.executable, "-c", _DEFINITIONS], runs)


def _session(runs: int) -> Iterator[Figure]:
    with _home():
        for what, without in (("session, no archive", "1"), ("session", "")):
            if not without and not class_archive.archive().is_file():
                return
            yield _measured(what, [sys.executable, "-c", _SESSION], runs, WITHOUT_ARCHIVE=without)


def _asset(runs: int) -> Iterator[Figure]:
    with _home() as home:
        landing = home / "landing"
        landing.mkdir()
        generate(users=SMALL, events=0, out=landing, seed=1)
        (landing / "events.jsonl").unlink(missing_ok=True)
        said = subprocess.run([BIN / "privacy-platform", "env", "--json"], capture_output=True, check=True).stdout
        command: Sequence[str | Path] = [BIN / "dagster", "asset", "materialize", "--select", "raw_users"]
        yield _measured("dagster asset materialize", command, runs, **json.loads(said))


def _demo(_: int) -> Iterator[Figure]:
    with _home(empty=True):
        for what in ("demo, first", "demo, again"):
            yield _measured(what, [BIN / "privacy-platform", "demo", "--json"], 1)


@contextmanager
def _home(*, empty: bool = False) -> Iterator[Path]:
    """A home of its own, set up unless it is to be empty."""
    with tempfile.TemporaryDirectory(prefix="privacy-platform-") as name, private_home(Path(name)) as home:
        if empty:
            embedded.stop(home)
            shutil.rmtree(home)
        yield home


def _measured(what: str, command: Sequence[str | Path], runs: int, **environment: str) -> Figure:
    """Seconds of every run of a command, and processor seconds of the last."""
    seconds, processor = [], dict.fromkeys(Group, 0.0)
    for _ in range(runs):
        standing = embedded.status(settings.home())
        before = cpu_seconds(os.getpid(), standing.pid)[Group.SERVER] if standing else 0.0
        began = time.perf_counter()
        with subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            os.set_blocking(process.stderr.fileno(), False)
            said = b""
            processor = dict.fromkeys(Group, 0.0)
            while process.poll() is None:
                time.sleep(0.1)
                said += process.stderr.read() or b""
                server = standing or embedded.status(settings.home())
                spent = cpu_seconds(process.pid, server.pid if server else None)
                # What has ended is no longer seen, unless somebody waited for it.
                processor = {group: max(processor[group], spent[group]) for group in Group}
            seconds.append(time.perf_counter() - began)
        if process.returncode:
            sys.exit(f"{what} failed:\n{said.decode(errors='replace')[-2000:]}")
        processor[Group.SERVER] -= min(before, processor[Group.SERVER])
    return {"what": what, "seconds": seconds, "processor": {str(g): round(s, 1) for g, s in processor.items()}}


if __name__ == "__main__":
    main()

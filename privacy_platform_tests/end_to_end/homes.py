"""Homes of the platform for tests: a state directory, the processes run on it, and ways to look inside.

A command is run as its user would, in a process of its own with an environment of its own. `Home.materialize` runs the
same Dagster run in this process instead, on the Spark session of the test run: starting one costs many seconds.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import psycopg

from privacy_platform import settings
from privacy_platform.streaming import broker, jars
from privacy_platform.vault.keyring import KEYRING_VARIABLE
from privacy_platform.warehouse import embedded
from privacy_platform.warehouse.connection import URL_VARIABLE, Role, database_url, with_database

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
JARS = {jars.FOLDER_VARIABLE: str(jars.folder())}
FOREIGN = (URL_VARIABLE, KEYRING_VARIABLE, "PRIVACY_PLATFORM_", "DAGSTER_", "SPARK_", "PYSPARK_")


@dataclass
class Home:
    """One home; `extra` is set for its processes on top of a clean environment."""

    path: Path
    extra: dict[str, str] = field(default_factory=dict, repr=False)
    urls: dict[Role, str] = field(default_factory=dict, repr=False)

    @property
    def landing(self) -> Path:
        folder = self.path / "landing"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        path = f"{BIN}{os.pathsep}{clean.get('PATH', '')}"
        return clean | {"PATH": path, settings.HOME_VARIABLE: str(self.path)} | JARS | self.extra

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make this process one of this home's: all its threads, so only where no other one starts a process."""
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(self.environment())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def run(self, *words: str, code: int | None = 0, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run `privacy-platform …` to its end."""
        return self.tool("privacy-platform", *words, code=code, timeout=timeout)

    def tool(
        self, program: str, *words: str, code: int | None = 0, timeout: float = 240, cwd: Path = ROOT
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the virtual environment to its end."""
        done = subprocess.run(
            [str(BIN / program), *words],
            env=self.environment(),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"{program} {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: str, code: int | None = 0) -> Any:
        """What a command prints with `--json`."""
        return json.loads(self.run(*words, "--json", code=code).stdout)

    @contextmanager
    def started(self, *words: str) -> "Iterator[Started]":
        """A `privacy-platform …` in the background, in a process group of its own; gone after the block."""
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [str(BIN / "privacy-platform"), *words],
                env=self.environment(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            running = Started(process, output)
            try:
                yield running
            finally:
                running.kill()

    def materialize(self, selection: str = "*", *, days: tuple[date, date] | None = None) -> Any:
        """What `privacy-platform materialize` does, in this process; for tests that ask for the `spark` fixture."""
        from privacy_platform.definitions import build_definitions
        from privacy_platform.defs import runs
        from privacy_platform.defs.instance import open_instance
        from privacy_platform.policy.load import load_policies
        from privacy_platform.vault.keyring import ensure_keyring

        with self.entered():
            ensure_keyring()
            policies = load_policies()
            with open_instance() as instance:
                return runs.materialize(build_definitions(policies), policies, instance, selection, days=days)

    def url(self, role: Role = Role.ADMIN) -> str:
        """The URL of the warehouse for a role, the server's superuser by default; read once, passwords stay."""
        if role not in self.urls:
            with self.entered():
                self.urls[role] = database_url(role)
        return self.urls[role]

    def connect(self, role: Role = Role.ADMIN, database: str | None = None) -> psycopg.Connection:
        """A connection by role; as the superuser of the server by default."""
        url = self.url(role)
        return psycopg.connect(with_database(url, database) if database else url, autocommit=True)

    def rows(self, query: str, role: Role = Role.ADMIN, database: str | None = None) -> list[tuple[Any, ...]]:
        with self.connect(role, database) as connection:
            return connection.execute(query.encode()).fetchall()

    def value(self, query: str, role: Role = Role.ADMIN) -> Any:
        return self.rows(query, role)[0][0]

    def tables(self, *schemas: str, database: str | None = None) -> list[str]:
        """Every ordinary table of some schemas (of all but the system's, when none is named), partitions included."""
        found = self.rows(
            "SELECT format('%I.%I', schemaname, tablename), schemaname FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
            database=database,
        )
        return [name for name, schema in found if not schemas or schema in schemas]

    def staging(self) -> list[str]:
        """What is left in staging, which must be nothing between runs."""
        left = [name for name in self.tables("staging") if name != "staging.commits"]
        return left + [f"commits: {row}" for row in self.rows("SELECT stage, split FROM staging.commits")]

    def visible(self) -> dict[str, int]:
        """Rows of every parent table that a reader of the anonymized and analytics zones can see."""
        names = self.rows(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname IN ('anonymized', 'analytics') AND c.relkind = 'p' ORDER BY 1"
        )
        return {name: self.value(f"SELECT count(*) FROM {name}") for (name,) in names}

    def discard(self) -> None:
        broker.stop(self.path)
        embedded.stop(self.path)
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass
class Started:
    """A process in the background."""

    process: "subprocess.Popen[bytes]"
    output: Any

    def said(self) -> str:
        self.output.seek(0)
        return str(self.output.read())

    def family(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """Kill what is left of the process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)

    def wait(self, seconds: float = 120) -> int:
        return self.process.wait(timeout=seconds)


def new_home(**extra: str) -> Home:
    """A fresh home with a path short enough for a socket inside."""
    return Home(Path(tempfile.mkdtemp(prefix="pp-")), dict(extra))


def until(condition: Callable[[], Any], *, seconds: float = 60, every: float = 0.05, what: str = "") -> Any:
    """Wait for something to become true, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(every)
    return result


def alive(processes: Sequence[psutil.Process]) -> list[str]:
    """Those that still run, zombies apart."""
    left = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(f"{process.pid} {process.name()}")
        except psutil.NoSuchProcess:
            continue
    return left

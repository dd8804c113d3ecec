"""Runs a stage and measures it: seconds, processor time, memory, disk, write-ahead log; tells how far it is."""

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measuring.processes import CpuMeter, Group, folder_bytes, memory_bytes
from benchmarks.measuring.results import StageResult
from privacy_platform.engine.gate import ReleaseReport
from privacy_platform.engine.stage import place_of
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.warehouse import embedded
from privacy_platform.warehouse.connection import Role, connect

__all__ = ["Meter"]

_HEARTBEAT = 30.0
_LEAST_PAUSE, _PAUSE = 0.5, 50


class Meter:
    """Measures the stages of one run, one after the other.

    Sampling costs some processor time of the driver: proportional set sizes are computed by walking page tables. So
    it pauses for fifty times as long as it takes, and once more looks when the stage has ended; `sampling_seconds` says
    what it has cost in all.
    """

    def __init__(self, home: Path, folder: Path, *, say: Callable[[str], None]) -> None:
        """Measures runs in the home of a running embedded server; `folder`, which it is in, counts as their disk.

        `say` is told how far a run is.
        """
        server = embedded.status(home)
        self._server = server.pid if server else None
        self._cpu = CpuMeter(os.getpid(), self._server)
        self._folder = folder
        self._say = say
        self.sampling_seconds = 0.0

    def measure(self, name: str, part: str, rows: int, run: Callable[[], ReleaseReport | int]) -> StageResult:
        """Run once, after PostgreSQL has written down what others left it to write.

        `run` returns the report of a release, or the number of rows it has made. What goes wrong ends the stage and
        not the benchmark: a long run keeps what it has.
        """
        wal = _wal_position(checkpoint=True)
        samples = _Samples()
        cpu = self._cpu.read()
        begin = time.perf_counter()
        done: ReleaseReport | int = 0
        error = None
        with self._sampling(name, samples):
            try:
                done = run()
            except PrivacyPlatformError as refused:
                error = str(refused)
            except Exception as failure:
                error = place_of(failure)  # a library's own words can hold values
            seconds = time.perf_counter() - begin
            spent = self._cpu.read()
        report = done if isinstance(done, ReleaseReport) else None
        result = StageResult(
            name=name,
            part=part,
            rows=rows,
            seconds=round(seconds, 3),
            cpu={group: round(max(0.0, spent[group] - cpu[group]), 2) for group in Group},
            memory={group.value: size for group, size in samples.memory.items()},
            disk=samples.disk,
            database=_database_bytes(),
            wal=_wal_position() - wal,
            counts=dict(report.statistics) if report else {},
            published=report.table_rows if report else int(done if isinstance(done, int) else 0),
            error=error,
        )
        self._say(_line(result))
        return result

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A folder within the run's disk, removed at the end of the block."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _sampling(self, name: str, samples: "_Samples") -> Iterator[None]:
        end = threading.Event()
        thread = threading.Thread(target=self._sample, args=(name, samples, end), name="samples", daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _sample(self, name: str, samples: "_Samples", end: threading.Event) -> None:
        begin = told = time.monotonic()
        while True:
            cost = time.thread_time()
            memory, disk = memory_bytes(os.getpid(), self._server), folder_bytes(self._folder)
            samples.take(memory, disk)
            self._cpu.look()
            cost = time.thread_time() - cost
            self.sampling_seconds += cost
            if (now := time.monotonic()) - told >= _HEARTBEAT:
                told = now
                self._say(f"{name}: {now - begin:.0f} s so far; memory {_gb(memory.total())}, disk {_gb(disk)}")
            if end.is_set():
                return
            end.wait(max(_LEAST_PAUSE, _PAUSE * cost))


class _Samples:
    """The peaks of a stage."""

    def __init__(self) -> None:
        self.memory: Counter[Group] = Counter()
        self.disk = 0

    def take(self, memory: Counter[Group], disk: int) -> None:
        """Keep what is more than before."""
        if memory.total() > self.memory.total():
            self.memory = memory
        self.disk = max(self.disk, disk)


def _wal_position(*, checkpoint: bool = False) -> int:
    with connect(Role.ADMIN, autocommit=True) as connection:
        if checkpoint:
            connection.execute("CHECKPOINT")
        row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
    return int(row[0]) if row else 0


def _database_bytes() -> int:
    with connect(Role.ADMIN) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


def _line(stage: StageResult) -> str:
    if stage.error:
        return f"{stage.name}: failed after {stage.seconds:.1f} s: {stage.error}"
    return (
        f"{stage.name}: {stage.seconds:.1f} s, {stage.rate:,.0f} rows/s, processor {stage.cpu_total:.0f} s, "
        f"memory {_gb(stage.memory_total)}, disk {_gb(stage.disk)}"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"

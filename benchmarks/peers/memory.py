"""Memory of several processes together, sampled while something runs.

Proportional set size (`/proc/<pid>/smaps_rollup`) where the system has it, for pages that processes share, as
PostgreSQL's buffers or a forked worker's modules, would count once for each of them otherwise; else resident size.
"""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

PROPORTIONAL = Path("/proc/self/smaps_rollup").exists()
"""Whether the system tells proportional set sizes."""


def process_bytes(process: psutil.Process, *, proportional: bool) -> int:
    """Bytes of one process in memory.

    Raises:
        psutil.Error, OSError: it is gone, or may not be looked at.
    """
    if proportional:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)


class MemorySampler:
    """A context manager; afterwards `peak` is the greatest sum in bytes and `parts` what it consisted of."""

    def __init__(self, roots: Sequence[int], *, every: float = 0.25) -> None:
        self._roots = roots
        self._every = every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self.peak = 0
        self.parts: dict[str, int] = {}
        self.samples = 0
        self.seconds = 0.0
        self.proportional = PROPORTIONAL

    def __enter__(self) -> "MemorySampler":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            begin = time.thread_time()
            parts = self.now()
            self.samples += 1
            if (total := sum(parts.values())) > self.peak:
                self.peak, self.parts = total, dict(parts)
            self.seconds += time.thread_time() - begin
            if self._end.wait(self._every):
                return

    def now(self) -> Counter[str]:
        """Bytes by name of program, of the roots and all their descendants."""
        parts: Counter[str] = Counter()
        for process in self._family():
            try:
                parts[process.name()] += process_bytes(process, proportional=self.proportional)
            except (psutil.Error, OSError):  # it has just ended
                continue
        return parts

    def _family(self) -> set[psutil.Process]:
        family: set[psutil.Process] = set()
        for root in self._roots:
            try:
                process = psutil.Process(root)
                family |= {process, *process.children(recursive=True)}
            except psutil.Error:
                continue
        return family

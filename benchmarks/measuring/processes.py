"""What a run costs in processor time and memory, by the group of processes that did it.

A process that has ended is not lost: the kernel adds its processor time to that of the process that waited for it, so
the time of PostgreSQL's backends ends up with the postmaster's. Spark's daemon waits for none of its workers, which it
ends after a minute without work: `CpuMeter` remembers what they had spent when it saw them last.
"""

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import psutil

from benchmarks.peers.memory import PROPORTIONAL, process_bytes

__all__ = ["CpuMeter", "Group", "cpu_seconds", "folder_bytes", "memory_bytes"]

_TRIES, _PAUSE = 20, 0.02


class Group(StrEnum):
    """Who did the work."""

    DRIVER = "driver"
    JVM = "JVM"
    WORKERS = "Python workers"
    SERVER = "PostgreSQL"


def cpu_seconds(driver: int, server: int | None) -> dict[Group, float]:
    """Processor seconds so far, user and system, by group; only differences of two readings mean something.

    Args:
        driver: this process, or any that has started a JVM.
        server: PostgreSQL's postmaster.
    """
    spent = dict.fromkeys(Group, 0.0)
    for _ in range(_TRIES):
        members = _members(driver, server)
        found = _spent(members)
        spent = found or spent
        # A backend that ends while they are read is found neither with the living nor with its postmaster.
        if found and [process.pid for _, process in members] == [p.pid for _, p in _members(driver, server)]:
            break
        time.sleep(_PAUSE)
    return spent


class CpuMeter:
    """`cpu_seconds` of one run, read now and then: what workers that have ended since had spent stays in it."""

    def __init__(self, driver: int, server: int | None) -> None:
        self._driver, self._server = driver, server
        self._workers: dict[tuple[int, float], float] = {}
        self._lock = threading.Lock()  # a thread of samples looks, another reads

    def look(self) -> None:
        """Take down what the workers have spent so far."""
        workers = [process for group, process in _members(self._driver, self._server) if group is Group.WORKERS]
        for process in workers:
            with self._lock, suppress(psutil.Error):
                times = process.cpu_times()
                self._workers[process.pid, process.create_time()] = times.user + times.system

    def read(self) -> dict[Group, float]:
        """Processor seconds so far, as `cpu_seconds` gives them."""
        spent = cpu_seconds(self._driver, self._server)
        self.look()
        with self._lock:
            return spent | {Group.WORKERS: sum(self._workers.values())}


def _spent(members: Sequence[tuple[Group, psutil.Process]]) -> dict[Group, float] | None:
    """Processor seconds by group; None when a process has ended meanwhile."""
    spent = dict.fromkeys(Group, 0.0)
    for group, process in members:
        try:
            times = process.cpu_times()
        except psutil.Error:
            return None
        spent[group] += times.user + times.system
        # The driver starts programs that are no part of the work, the JVM nothing but Python.
        ended = {Group.DRIVER: None, Group.JVM: Group.WORKERS}.get(group, group)
        if ended is not None:
            spent[ended] += times.children_user + times.children_system
    return spent


def memory_bytes(driver: int, server: int | None) -> Counter[Group]:
    """Bytes in memory now, by group: proportional set size where the system tells it, else resident size."""
    held: Counter[Group] = Counter()
    for group, process in _members(driver, server):
        try:
            held[group] += process_bytes(process, proportional=PROPORTIONAL)
        except (psutil.Error, OSError):
            continue
    return held


def folder_bytes(folder: Path) -> int:
    """Bytes on disk of all files below a folder, as the file system counts them."""
    return sum(map(_bytes_of, _files(folder)))


def _bytes_of(file: os.DirEntry[str]) -> int:
    try:
        return file.stat(follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:  # removed meanwhile
        return 0


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield entry
    except OSError:  # removed meanwhile
        return


def _members(driver: int, server: int | None) -> list[tuple[Group, psutil.Process]]:
    """All processes of a run, from one look at the system's."""
    children: defaultdict[int, list[psutil.Process]] = defaultdict(list)
    known: dict[int, psutil.Process] = {}
    for process in psutil.process_iter(["name", "ppid"]):
        known[process.pid] = process
        children[process.info["ppid"]].append(process)

    def below(process: psutil.Process, group: Group) -> Iterator[tuple[Group, psutil.Process]]:
        """A process of a group and its descendants: below the driver a JVM, below that its workers."""
        if group is Group.DRIVER and process.info["name"] == "java":
            group = Group.JVM
        yield group, process
        for child in children[process.pid]:
            yield from below(child, Group.WORKERS if group is Group.JVM else group)

    roots = ((Group.DRIVER, driver), (Group.SERVER, server))
    return [member for group, root in roots if root in known for member in below(known[root], group)]

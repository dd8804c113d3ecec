"""What a run costs in processor time and memory, by the group of processes that did it.

A process that has ended is not lost: the kernel adds its processor time to that of the process that waited for it, so
the time of PostgreSQL's backends ends up with the postmaster's, and that of Python workers with Spark's daemon.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import psutil

from benchmarks.peers.memory import PROPORTIONAL, process_bytes

__all__ = ["Group", "cpu_seconds", "folder_bytes", "memory_bytes"]


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
    for group, process in _members(driver, server):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has just ended
            continue
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
    return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in _files(folder))


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


def _members(driver: int, server: int | None) -> Iterator[tuple[Group, psutil.Process]]:
    for process, above in _tree(driver, ()):
        yield _group(process, above), process
    if server is not None:
        for process, _ in _tree(server, ()):
            yield Group.SERVER, process


def _group(process: psutil.Process, above: Iterable[str]) -> Group:
    if "java" in above:
        return Group.WORKERS
    return Group.JVM if _name(process) == "java" else Group.DRIVER


def _tree(root: int, above: tuple[str, ...]) -> Iterator[tuple[psutil.Process, tuple[str, ...]]]:
    """A process and its descendants, each with the names of the processes above it."""
    try:
        process = psutil.Process(root)
        children = process.children()
    except psutil.Error:
        return
    yield process, above
    for child in children:
        yield from _tree(child.pid, (*above, _name(process)))


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""

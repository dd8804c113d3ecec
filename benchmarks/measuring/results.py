"""The figures of a run as values: written after every stage, read again to compare runs of different size."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Balance", "Growth", "Ratio", "RunResult", "StageResult", "TableSize", "growth", "load", "save"]

ROW_PATH = ("raw_users", "raw_events", "anonymized_users", "anonymized_events")
"""The stages from files to the published rows of people."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageResult(_Value):
    """One stage: what it read, how long it took, what it used.

    Attributes:
        name: as in the tables, e.g. `raw_events`, or `user_cohorts, exact`.
        part: which part of the run it belongs to: `generate`, `rows`, `exact`, `private` or `peers`.
        rows: the rows it read.
        seconds: wall clock.
        cpu: processor seconds by group of processes.
        memory: bytes by group at the moment when all processes together held the most.
        disk: most bytes on disk while it ran, of files, database and scratch together.
        database: bytes of the database after it.
        wal: bytes of write-ahead log that it wrote.
        counts: its own counts of rows.
        published: rows of its table afterwards.
        error: why it did not end, in words without a value; None if it ended.
    """

    name: str
    part: str
    rows: int
    seconds: float
    cpu: Mapping[str, float] = Field(default_factory=dict)
    memory: Mapping[str, int] = Field(default_factory=dict)
    disk: int = 0
    database: int = 0
    wal: int = 0
    counts: Mapping[str, int] = Field(default_factory=dict)
    published: int = 0
    error: str | None = None

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def micros(self) -> float:
        """Microseconds a row."""
        return self.seconds / self.rows * 1e6 if self.rows else 0.0

    @property
    def cpu_total(self) -> float:
        """Processor seconds of all processes."""
        return sum(self.cpu.values())

    @property
    def memory_total(self) -> int:
        """Bytes of all processes at their common peak."""
        return sum(self.memory.values())


class TableSize(_Value):
    """Rows and bytes of a zone table, all partitions together."""

    name: str
    rows: int
    table: int
    indexes: int


class Balance(_Value):
    """Rows that went into a stage, and what became of each."""

    stage: str
    read: int
    became: Mapping[str, int]

    @property
    def difference(self) -> int:
        """Rows that nobody accounts for; 0 when reconciled."""
        return self.read - sum(self.became.values())


class Ratio(_Value):
    """Ours against something else, beside what it was meant to be.

    `value` is None when it was not measured, `limit` when nothing was demanded.
    """

    name: str
    value: float | None
    limit: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it is as good as it was meant to be; None when there is nothing to say."""
        return None if self.value is None or self.limit is None else self.value <= self.limit


class RunResult(_Value):
    """All figures of a run, complete or not."""

    users: int
    events: int
    days: int
    format: str
    machine: Mapping[str, Any]
    session_seconds: float = 0.0
    first_task_seconds: float = 0.0
    files: Mapping[str, int] = Field(default_factory=dict)
    stages: tuple[StageResult, ...] = ()
    tables: tuple[TableSize, ...] = ()
    balances: tuple[Balance, ...] = ()
    peers: tuple[StageResult, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    facts: Mapping[str, Any] = Field(default_factory=dict)
    complete: bool = False

    @property
    def size(self) -> str:
        """`100k/1M`: users and events."""
        return f"{short(self.users)}/{short(self.events)}"

    @property
    def reconciled(self) -> bool:
        """Whether every row is accounted for."""
        return bool(self.balances) and all(balance.difference == 0 for balance in self.balances)

    def stage(self, name: str) -> StageResult | None:
        """The stage of that name, if it was reached."""
        return next((stage for stage in (*self.stages, *self.peers) if stage.name == name), None)

    def seconds(self, names: Iterable[str]) -> float | None:
        """Seconds of several stages together; None if one of them has not ended."""
        found = [self.stage(name) for name in names]
        if not found or any(stage is None or stage.error for stage in found):
            return None
        return sum(stage.seconds for stage in found if stage)

    def part(self, *parts: str) -> list[StageResult]:
        """The stages of some parts that have ended, in order."""
        return [stage for stage in self.stages if stage.part in parts and not stage.error]


class Growth(_Value):
    """A stage at several sizes: microseconds a row, and each divided by the one before."""

    name: str
    micros: tuple[float, ...]

    @property
    def factors(self) -> tuple[float, ...]:
        """Time a row at each size over that at the size before; 1 is linear."""
        return tuple(after / before if before else 0.0 for before, after in pairwise(self.micros))


def growth(runs: Sequence[RunResult]) -> list[Growth]:
    """Time a row of what all runs have, smallest run first as given: stages, then their sums by event."""
    names = [s.name for s in runs[0].stages if not s.error] if runs else []
    shared = [name for name in names if all((s := run.stage(name)) and not s.error for run in runs)]
    stages = [Growth(name=name, micros=tuple(_micros(run, name) for run in runs)) for name in shared]
    if not runs:
        return []
    return stages + [
        Growth(name=name, micros=tuple(seconds / run.events * 1e6 for run, seconds in zip(runs, spent, strict=True)))
        for name, spent in _sums(runs)
    ]


def _micros(run: RunResult, name: str) -> float:
    stage = run.stage(name)
    return stage.micros if stage else 0.0


def _sums(runs: Sequence[RunResult]) -> Iterator[tuple[str, list[float]]]:
    """What can be compared: sums of the same stages, all of which have ended."""
    for label, parts in SUMS.items():
        ended = [run.part(*parts) for run in runs]
        whole = [[stage.name for stage in run.stages if stage.part in parts] for run in runs]
        if whole[0] and all([stage.name for stage in stages] == whole[0] for stages in ended):
            yield label, [sum(stage.seconds for stage in stages) for stages in ended]


SUMS = {
    "row path, an event": ("rows",),
    "aggregates exact, an event": ("exact",),
    "aggregates private, an event": ("private",),
    "all but generating, an event": ("rows", "exact", "private"),
}
"""What is added up, and of which parts."""


def save(path: Path | None, result: RunResult) -> None:
    """Write a result, if a path is given; a reader never sees half of it."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        text = json.dumps(result.model_dump(mode="json"), indent=2, ensure_ascii=False)
        new.write_text(text + "\n", encoding="utf-8")
        os.replace(new, path)


def load(paths: Iterable[Path]) -> list[RunResult]:
    """Results from their files, smallest run first.

    Raises:
        SystemExit: a file is not one of this benchmark.
    """
    runs = []
    for path in paths:
        try:
            runs.append(RunResult.model_validate_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            raise SystemExit(f"{path} holds no results of benchmarks.pipeline: write one with --json") from None
    return sorted(runs, key=lambda run: (run.events, run.users))


def short(number: int) -> str:
    """`100k`, `1M`, `1234`: a number as people say it."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit and number % unit == 0:
            return f"{number // unit}{letter}"
    return str(number)

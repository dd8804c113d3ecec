"""Write the files of a synthetic data set.

Chunks of rows are computed and encoded on a few threads (numpy, polars and zlib release the interpreter's
lock) and written in order by the caller's thread, with a bounded number in flight: events cost no memory by
their number, users about 20 bytes each.
"""

import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl
import pyarrow as pa

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.synthetic import dirt
from privacy_platform.synthetic.events import Slice, plan, slice_frame
from privacy_platform.synthetic.files import Chunk, OutputFile, deflate
from privacy_platform.synthetic.report import Dataset, GeneratedFile, GenerationReport, PlantedRow
from privacy_platform.synthetic.users import UserSpace

FileFormat = Literal["jsonl", "csv", "parquet"]
Progress = Callable[[str, int, int], None]
"""Called with a dataset, its rows done so far, and its rows in all (planted duplicates not counted)."""

_USER_CHUNK = 65_536
_TIMESTAMPS = ("created_at", "last_login", "timestamp")
_DATASET_CODE: dict[Dataset, int] = {"users": 1, "events": 2}


class GenerationError(PrivacyPlatformError):
    """The arguments of a generation run are unusable."""


def generate(
    *,
    users: int,
    events: int,
    out: Path,
    format: FileFormat = "jsonl",
    seed: int = 0,
    dirty: float = 0.0,
    compress: bool = False,
    end: date = date(2026, 6, 30),
    days: int = 30,
    split_by_day: bool = False,
    progress: Progress | None = None,
) -> GenerationReport:
    """Write ``users.<format>`` and ``events.<format>`` (or ``events-YYYY-MM-DD.<format>``) into ``out``.

    All files get their names only when all are finished; older files of the same name are replaced, others
    are left alone. The same arguments give the same bytes.

    Args:
        users: Number of users.
        events: Number of events; needs at least one user when not 0.
        out: Folder, made if missing.
        format: ``jsonl``, ``csv`` (with a header) or ``parquet`` (timestamps typed, zstd inside).
        seed: Decides everything drawn; 0 or more.
        dirty: Share of rows, 0 to 1, that are made bad on purpose; see `GenerationReport.planted_rows`.
        compress: Write ``.gz`` files (no effect on Parquet).
        end: Last day (UTC) with events.
        days: Days with events; all accounts are older.
        split_by_day: One file of events for each day that has any.
        progress: Told about every chunk written.

    Returns:
        The files and planted rows.

    Raises:
        GenerationError: An argument is out of its range.
    """
    _check(users, events, format, seed, dirty, days)
    space = UserSpace(seed, users, end, days)
    if events:
        space.prepare_activity()
    out.mkdir(parents=True, exist_ok=True)
    outputs = _Outputs(out, format, compress)
    try:
        outputs.open("users", "users")
        if not split_by_day:
            outputs.open("events", "events")
        encode = partial(_encode, space=space, form=format, dirty=dirty, compress=compress)
        done: dict[Dataset, int] = {"users": 0, "events": 0}
        total: dict[Dataset, int] = {"users": users, "events": events}
        jobs = chain(_user_jobs(space), _event_jobs(space, events, end, days, split_by_day))
        for job, encoded in _side_by_side(jobs, encode):
            outputs.write(job, encoded)
            done[job.dataset] += job.rows
            if progress:
                progress(job.dataset, done[job.dataset], total[job.dataset])
        return outputs.publish(seed)
    finally:
        outputs.discard()


def _check(users: int, events: int, form: str, seed: int, dirty: float, days: int) -> None:
    mends = (
        (users >= 0 and events >= 0, "users and events must not be negative: give 0 or more"),
        (users > 0 or events == 0, "events need somebody to cause them: give users of 1 or more"),
        (form in get_args(FileFormat), f"unknown format: give one of {', '.join(get_args(FileFormat))}"),
        (seed >= 0, "seed must not be negative: give 0 or more"),
        (0 <= dirty <= 1, "dirty is a share of rows: give a number from 0 to 1"),
        (1 <= days <= 3_650, "days is out of its range: give 1 to 3650"),
    )
    for fine, mend in mends:
        if not fine:
            raise GenerationError(mend)


@dataclass(frozen=True, slots=True)
class _Job:
    """One chunk to make: rows for the file called ``stem``."""

    dataset: Dataset
    stem: str
    number: int
    rows: int
    frame: Callable[[bool], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class _Encoded:
    chunk: Chunk
    rows: int
    planted: list[dirt.Planted]


def _user_jobs(space: UserSpace) -> Iterator[_Job]:
    for number, low in enumerate(range(0, space.users, _USER_CHUNK)):
        high = min(low + _USER_CHUNK, space.users)

        def frame(typed: bool, low: int = low, high: int = high) -> pl.DataFrame:
            return space.frame(np.arange(low, high), typed=typed)

        yield _Job("users", "users", number, high - low, frame)


def _event_jobs(space: UserSpace, events: int, end: date, days: int, split_by_day: bool) -> Iterator[_Job]:
    for part in plan(events, end, days):

        def frame(typed: bool, part: Slice = part) -> pl.DataFrame:
            return slice_frame(space, part, typed=typed)

        stem = f"events-{part.day.isoformat()}" if split_by_day else "events"
        yield _Job("events", stem, part.number, part.rows, frame)


def _encode(job: _Job, *, space: UserSpace, form: FileFormat, dirty: float, compress: bool) -> _Encoded:
    """Compute the rows of a job, make some of them bad, and turn them into what its file holds."""
    frame = job.frame(form == "parquet")
    planted: list[dirt.Planted] = []
    rng = np.random.Generator(np.random.PCG64([space.seed, 0xD127, _DATASET_CODE[job.dataset], job.number]))
    if dirty > 0:
        frame, planted = dirt.plant_in_frame(frame, job.dataset, dirty, rng, space, text=form != "parquet")
    if form == "parquet":
        return _Encoded(Chunk(table=_arrow(frame)), frame.height, planted)
    text = _text(frame, form)
    if planted:
        text, planted = dirt.plant_in_text(text, planted, job.dataset, form, rng)
    return _Encoded(Chunk(text, deflate(text) if compress else None), frame.height, planted)


def _text(frame: pl.DataFrame, form: Literal["jsonl", "csv"]) -> bytes:
    buffer = io.BytesIO()
    if form == "jsonl":
        frame.write_ndjson(buffer)
    else:
        frame.write_csv(buffer, include_header=False)
    return buffer.getvalue()


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _arrow_schema(dataset: Dataset) -> pa.Schema:
    stamp = pl.Datetime("ms", "UTC")
    schema = {name: stamp if name in _TIMESTAMPS else kind for name, kind in dirt.SCHEMAS[dataset].items()}
    return _arrow(pl.DataFrame(schema=schema)).schema


def _side_by_side(
    jobs: Iterator[_Job], work: Callable[[_Job], _Encoded], most: int = 4
) -> Iterator[tuple[_Job, _Encoded]]:
    """Results of the jobs in their order, computed on up to ``most`` threads, one waiting for each thread."""
    threads = max(1, min(most, os.cpu_count() or 1))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="synthetic")
    waiting: deque[tuple[_Job, Future[_Encoded]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, pool.submit(work, job)))
            if len(waiting) > threads:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(slots=True)
class _OpenFile:
    output: OutputFile
    dataset: Dataset
    lines: int
    rows: int = 0
    planted: list[PlantedRow] = field(default_factory=list)


class _Outputs:
    """The files of a run, by stem; at most one file a dataset is being written at any moment."""

    def __init__(self, folder: Path, form: FileFormat, compress: bool) -> None:
        self._folder = folder
        self._form = form
        self._compress = compress and form != "parquet"
        self._files: dict[str, _OpenFile] = {}
        self._current: dict[Dataset, str] = {}

    def open(self, dataset: Dataset, stem: str) -> _OpenFile:
        if stem in self._files:
            return self._files[stem]
        if previous := self._current.get(dataset):
            self._files[previous].output.close()
        name = f"{stem}.{self._form}" + (".gz" if self._compress else "")
        schema = _arrow_schema(dataset) if self._form == "parquet" else None
        output = OutputFile(self._folder / name, schema, compress=self._compress)
        header = self._form == "csv"
        self._files[stem] = _OpenFile(output, dataset, lines=1 if header else 0)
        self._current[dataset] = stem
        if header:
            output.write(Chunk((",".join(dirt.SCHEMAS[dataset]) + "\n").encode()))
        return self._files[stem]

    def write(self, job: _Job, encoded: _Encoded) -> None:
        file = self.open(job.dataset, job.stem)
        file.output.write(encoded.chunk)
        name = file.output.path.name
        base = file.lines + 1
        file.planted += [PlantedRow(name, base + p.position, p.kind, p.detail) for p in encoded.planted]
        file.lines += encoded.rows
        file.rows += encoded.rows

    def publish(self, seed: int) -> GenerationReport:
        for file in self._files.values():
            file.output.close()
        files = tuple(
            GeneratedFile(file.output.path, file.dataset, file.rows, file.output.publish())
            for file in self._files.values()
        )
        planted = tuple(row for file in self._files.values() for row in file.planted)
        return GenerationReport(files, seed, planted)

    def discard(self) -> None:
        for file in self._files.values():
            file.output.discard()

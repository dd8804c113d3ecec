"""Batches that a task leaves on the disk of its machine for a later task of the same session.

Through the JVM and its cache, a million rows would be copied six times; from a file that the kernel still has in
memory they are mapped and not copied at all. A file may be gone when it is wanted (another machine runs the later
task, or the executor that wrote it has ended): whoever reads must be able to make its rows again. Files are closed to
other users, lie in the scratch folder that Spark has given this executor and go with it, if nobody has removed them
before.
"""

import os
import secrets
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import polars as pl
import pyarrow as pa

# Set by Spark for every Python worker: the executor's scratch folders, one a disk.
FOLDERS_VARIABLE = "SPARK_LOCAL_DIRS"


class Spill:
    """Writes batches of one schema to a file of its own: a context manager that leaves nothing after an error."""

    def __init__(self) -> None:
        folder = secrets.choice(os.environ[FOLDERS_VARIABLE].split(","))
        self.path = Path(folder) / f"spill-{uuid.uuid4().hex}"
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def __enter__(self) -> "Spill":
        self._sink = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        return self

    def add(self, frame: pl.DataFrame) -> None:
        """Write the frame's rows behind those before."""
        table = frame.to_arrow()
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._sink, table.schema)
        self._writer.write_table(table)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        whole = False
        try:
            if self._writer is not None:
                self._writer.close()  # writes, and so fails on a full disk
                whole = kind is None
        finally:
            if not whole:
                remove(self.path)
            self._sink.close()


def spilled(path: Path) -> Iterator[pl.DataFrame] | None:
    """The batches of a spill, mapped into memory; None when it is gone."""
    try:
        source = pa.memory_map(str(path))
    except FileNotFoundError:
        return None
    return _frames(source)


def _frames(source: pa.MemoryMappedFile) -> Iterator[pl.DataFrame]:
    with source, pa.ipc.open_stream(source) as batches:
        for batch in batches:
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a record batch gives a frame
            yield frame


def remove(path: Path) -> None:
    """Remove a spill, if it is there."""
    with suppress(FileNotFoundError):
        path.unlink()

"""Output files: text, gzip and Parquet, each under a temporary name until the whole run has succeeded."""

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""RFC 1952: deflate, no name, no time (the same rows give the same bytes), unknown system."""
_GZIP_LAST_BLOCK = b"\x03\x00"
_LEVEL = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """Finished rows: text, its deflated form when the file is compressed, or an Arrow table."""

    text: bytes = b""
    deflated: bytes | None = None
    table: pa.Table | None = None


def deflate(text: bytes) -> bytes:
    """A piece of a deflate stream that ends at a byte boundary: pieces made side by side can be joined."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)


class OutputFile:
    """One file of a run: `write` chunks, `close`, then `publish` (or `discard`)."""

    def __init__(self, path: Path, schema: pa.Schema | None, *, compress: bool) -> None:
        """Open a temporary file beside ``path``; with a schema it is Parquet, and ``compress`` has no say."""
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._parquet = None if schema is None else pq.ParquetWriter(self._temporary, schema, compression="zstd")
        self._stream: BinaryIO | None = None if schema is not None else self._temporary.open("wb")
        self._gzip = compress and schema is None
        self._crc = 0
        self._length = 0
        if self._stream and self._gzip:
            self._stream.write(_GZIP_HEADER)

    def write(self, chunk: Chunk) -> None:
        """Append a chunk."""
        if self._parquet and chunk.table is not None:
            self._parquet.write_table(chunk.table)
        elif self._stream and self._gzip:
            self._stream.write(deflate(chunk.text) if chunk.deflated is None else chunk.deflated)
            self._crc = zlib.crc32(chunk.text, self._crc)
            self._length += len(chunk.text)
        elif self._stream:
            self._stream.write(chunk.text)

    def close(self) -> None:
        """Finish the temporary file."""
        if self._parquet:
            self._parquet.close()
        if self._stream:
            if self._gzip:
                self._stream.write(_GZIP_LAST_BLOCK + struct.pack("<II", self._crc, self._length & 0xFFFFFFFF))
            self._stream.close()
        self._parquet = self._stream = None

    def publish(self) -> int:
        """Give the finished file its name and return its size."""
        os.replace(self._temporary, self.path)
        return self.path.stat().st_size

    def discard(self) -> None:
        """Remove what was written, if it was not published."""
        if self._stream:
            self._stream.close()
        if self._parquet:
            self._parquet.close()
        self._parquet = self._stream = None
        self._temporary.unlink(missing_ok=True)

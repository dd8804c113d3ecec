"""Counter-based random numbers and fast text, on whole arrays.

An attribute of user *i* is a pure function of (seed, attribute, i), so any batch of users can be computed
anywhere, in any order, without state. The mixing function is the finaliser of SplitMix64 (Steele, Lea and
Flood, OOPSLA 2014): a bijection of 64-bit integers, which also makes identifiers unique by construction.
It is no cryptography and needs none.
"""

import hashlib
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()


def stream(seed: int, name: str) -> np.uint64:
    """The start of the independent number stream called ``name``."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "big"))


def bits(start: np.uint64, counter: U64) -> U64:
    """64 random bits for each counter; two counters of one stream never give the same bits."""
    x = counter * _GOLDEN + start
    x ^= x >> np.uint64(30)
    x *= _MIX_A
    x ^= x >> np.uint64(27)
    x *= _MIX_B
    x ^= x >> np.uint64(31)
    return x


def uniform(start: np.uint64, counter: U64) -> F64:
    """Uniform numbers in [0, 1) for each counter."""
    return (bits(start, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, name: str, counter: U64) -> F64:
    """Standard normal numbers for each counter (Box-Muller)."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(stream(seed, name + "/r"), counter)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(stream(seed, name + "/a"), counter)))


def choose(cumulative: F64, u: F64) -> I64:
    """Index drawn by each ``u`` in [0, 1) from cumulative weights that end in 1."""
    return np.minimum(np.searchsorted(cumulative, u, side="right"), len(cumulative) - 1)


def cumulative(weights: npt.ArrayLike) -> F64:
    """Cumulative shares of ``weights``."""
    total = np.cumsum(np.asarray(weights, dtype=np.float64))
    return np.asarray(total / total[-1])


def _digits(count: int, width: int) -> npt.NDArray[np.uint8]:
    """Row i holds the ASCII digits of i, zero-padded."""
    text = "".join(f"{i:0{width}d}" for i in range(count))
    return np.frombuffer(text.encode(), dtype=np.uint8).reshape(count, width)


_CLOCK = np.frombuffer(
    "".join(f"T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(_DAY)).encode(), dtype=np.uint8
).reshape(_DAY, 9)
_MILLIS = _digits(1000, 3)
_HEX = np.frombuffer("".join(f"{i:02x}" for i in range(256)).encode(), dtype=np.uint8).reshape(256, 2)


def fixed_width(matrix: npt.NDArray[np.uint8]) -> pl.Series:
    """A text column from an (n, width) matrix of ASCII bytes."""
    rows, width = matrix.shape
    offsets = np.arange(rows + 1, dtype=np.int64) * width
    data = np.ascontiguousarray(matrix)
    array = pa.LargeStringArray.from_buffers(rows, pa.py_buffer(offsets.data), pa.py_buffer(data.data))
    return pl.Series(values=array, dtype=pl.String)


def hex_ids(prefix: str, values: U64) -> pl.Series:
    """``prefix`` and the 16 hex digits of each value."""
    head = np.frombuffer(prefix.encode(), dtype=np.uint8)
    out = np.empty((len(values), len(head) + 16), dtype=np.uint8)
    out[:, : len(head)] = head
    out[:, len(head) :] = _HEX[values.astype(">u8").view(np.uint8)].reshape(-1, 16)
    return fixed_width(out)


def iso_seconds(epoch: I64) -> pl.Series:
    """``2026-05-03T14:05:09Z`` for seconds since 1970."""
    if not len(epoch):
        return pl.Series([], dtype=pl.String)
    days = epoch // _DAY
    first, last = int(days.min()), int(days.max())
    names = "".join(date.fromordinal(_EPOCH + d).isoformat() for d in range(first, last + 1))
    dates = np.frombuffer(names.encode(), dtype=np.uint8).reshape(-1, 10)
    out = np.empty((len(epoch), 20), dtype=np.uint8)
    out[:, :10] = dates[days - first]
    out[:, 10:19] = _CLOCK[epoch - days * _DAY]
    out[:, 19] = ord("Z")
    return fixed_width(out)


def iso_millis(day: date, millis: I64) -> pl.Series:
    """``2026-05-03T14:05:09.123Z`` for milliseconds since the midnight (UTC) that began ``day``."""
    out = np.empty((len(millis), 24), dtype=np.uint8)
    out[:, :10] = np.frombuffer(day.isoformat().encode(), dtype=np.uint8)
    seconds = millis // 1000
    out[:, 10:19] = _CLOCK[seconds]
    out[:, 19] = ord(".")
    out[:, 20:23] = _MILLIS[millis - seconds * 1000]
    out[:, 23] = ord("Z")
    return fixed_width(out)


def epoch_seconds(day: date) -> int:
    """Seconds from 1970 to the midnight (UTC) that begins ``day``."""
    return (day.toordinal() - _EPOCH) * _DAY

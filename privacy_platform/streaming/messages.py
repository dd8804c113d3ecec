"""Events as Kafka messages: a JSON object of one line as value, a digest of the user's id as key.

The key decides the partition, so one user's events stay in order. It is no pseudonym: who knows an id can compute it.
A header names the version of the schema; a consumer that does not know a version must not guess.
"""

import gzip
import hashlib
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import polars as pl

from privacy_platform.streaming.client import StreamingError
from privacy_platform.synthetic.events import Slice, slice_frame
from privacy_platform.synthetic.users import UserSpace

SCHEMA_HEADER = "schema_version"
SCHEMA_VERSION = b"1"
SUBJECT = "user_id"
_KEY_BYTES = 8
_SLICE_ROWS = 16_384
_QUIET_DAYS = 30


class Message(NamedTuple):
    """What is sent: a key, or None where the value names nobody, and the value."""

    key: bytes | None
    value: bytes


def key_of(user_id: str) -> bytes:
    """The key of a user's messages: 8 bytes."""
    return hashlib.blake2b(user_id.encode(), digest_size=_KEY_BYTES).digest()


def live(users: int, chunk: int, *, seed: int | None = None) -> Iterator[list[Message]]:
    """Synthetic events without end, in lists of `chunk`, each stamped with the time at which it is asked for.

    Args:
        users: Events are of `user_000001` to this number: those that `generate` makes.
        chunk: Messages in a list.
        seed: The same seed gives the same events, their times aside, and the same `event_id`s; by default a random one.

    Raises:
        StreamingError: there is nobody to cause events.
    """
    if users < 1:
        raise StreamingError("Events need somebody to cause them: give users of 1 or more.")
    today = datetime.now(UTC).date()
    space = UserSpace(secrets.randbits(63) if seed is None else seed, users, today, _QUIET_DAYS)
    space.prepare_activity()
    for number in count():
        part = Slice(number, today, 0.0, 1.0, _SLICE_ROWS, number * _SLICE_ROWS)
        for frame in slice_frame(space, part).iter_slices(chunk):
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
            values = frame.with_columns(timestamp=pl.lit(now)).write_ndjson().encode().splitlines()
            yield [Message(key_of(user), value) for user, value in zip(frame[SUBJECT], values, strict=True)]


def lines(path: Path, chunk: int) -> Iterator[list[Message]]:
    """The lines of a JSON Lines file (also `.gz`) as they are, blank ones left out, in lists of at most `chunk`.

    Lines that are broken are sent too, without a key: judging them is the consumer's business.

    Raises:
        StreamingError: the file cannot be read.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            found = (line for raw in file if (line := raw.strip()))
            while part := [Message(_key_of_line(line), line) for line in islice(found, chunk)]:
                yield part
    except (OSError, EOFError) as error:
        raise StreamingError(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'damaged'}).") from None


def _key_of_line(line: bytes) -> bytes | None:
    try:
        user = json.loads(line)[SUBJECT]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return key_of(user) if isinstance(user, str) else None

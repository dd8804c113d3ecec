"""Which of a batch's records have landed before, found in time that follows the batch and not the table.

To join a batch with all that stands reads the whole table each time. The one process that streams a topic keeps a
filter of the keys that stand instead: a Bloom filter (Bloom, 1970) of blocks of 64 bits (Putze, Sanders and Singler,
2007), of hashes that the server computes. It never misses a key; the few that it takes for standing ones are looked up.

The filter holds for as long as nobody else publishes the table, which its audit log tells; then it is made anew.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from psycopg import Connection, sql

from privacy_platform.engine.gate import WarehouseError
from privacy_platform.engine.release_raw import drop_standing
from privacy_platform.engine.sources.zone import read_frames
from privacy_platform.governance import audit
from privacy_platform.policy.tables import Table
from privacy_platform.warehouse.release import STAGING, Release

Hashes = npt.NDArray[np.uint64]

# A block of 64 bits for each key to begin with, and four keys in a block in the end: one key in two hundred is then
# taken for one that stands. Beyond the largest filter (half a gigabyte, 268 million keys) there are more of them.
_FEWEST_BLOCKS, _MOST_BLOCKS, _KEYS_IN_A_BLOCK = 2**20, 2**26, 4
_BITS_OF_A_KEY = 4
_NONE: Hashes = np.empty(0, dtype=np.uint64)
# Of so many that may stand a join costs less than to look each of them up.
_LOOKED_UP = 0.05


class KeyFilter:
    """A set of hashed keys that may say yes of a key that is not in it, and never no of one that is."""

    def __init__(self, expected: int) -> None:
        size = min(_MOST_BLOCKS, max(_FEWEST_BLOCKS, 2 ** math.ceil(math.log2(max(1, expected)))))
        self._blocks: Hashes = np.zeros(size, dtype=np.uint64)
        self._shift = np.uint64(64 - (size.bit_length() - 1))
        self._keys = 0

    @property
    def full(self) -> bool:
        """Whether a larger one would be better."""
        return len(self._blocks) < _MOST_BLOCKS and self._keys > _KEYS_IN_A_BLOCK * len(self._blocks)

    def add(self, hashes: Hashes) -> None:
        """Put keys in."""
        np.bitwise_or.at(self._blocks, self._places(hashes), _bits(hashes))
        self._keys += len(hashes)

    def holds(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Of each key, whether it may be in it."""
        bits = _bits(hashes)
        return np.asarray((self._blocks[self._places(hashes)] & bits) == bits)

    def _places(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        return (hashes >> self._shift).astype(np.int64)


def _bits(hashes: Hashes) -> Hashes:
    """The bits of each key in its block: of the low bits of its hash, which have no part in the choice of the block."""
    found = np.zeros(len(hashes), dtype=np.uint64)
    for number in range(_BITS_OF_A_KEY):
        found |= np.uint64(1) << ((hashes >> np.uint64(6 * number)) & np.uint64(63))
    return found


class StandingKeys:
    """The keys that stand in a raw table, for the process that streams into it.

    To be used by whoever holds the table's lock.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._filter: KeyFilter | None = None
        self._publication: int | None = None
        self._staged = _NONE

    def drop_from(self, connection: Connection, release: Release) -> int:
        """Drop the staged records whose key has landed before, on whatever day; returns how many.

        Args:
            connection: as the pipeline role.
            release: the staged records, committed.

        Raises:
            WarehouseError: the server does not answer.
        """
        publication = audit.last_publication(connection, self._table.qualified)
        connection.commit()
        if self._filter is None or self._filter.full or publication != self._publication:
            self._filter = None  # or there would be two at a time
            self._filter = _filter_of(connection, self._table)
            self._publication = publication
        self._staged = np.concatenate([_NONE, *_hashes(STAGING, release.staging, self._table)])
        found = self._staged[self._filter.holds(self._staged)]
        if len(found) > _LOOKED_UP * len(self._staged):
            return drop_standing(connection, release)
        return _drop(connection, release, found) if len(found) else 0

    def published(self, publication: int | None) -> None:
        """Take note that the records looked at last stand now, by the entry of that number in the audit log."""
        if self._filter is not None:
            self._filter.add(self._staged)
            self._publication = publication
        self._staged = _NONE

    def forget(self) -> None:
        """Read the table anew the next time."""
        self._filter = None


def _filter_of(connection: Connection, table: Table) -> KeyFilter:
    recorded = audit.rows_on_record(connection, table.qualified)
    connection.commit()
    found = KeyFilter(recorded[0] if recorded else 0)
    for part in _hashes(table.zone, table.name, table):
        found.add(part)
    return found


def _hashes(schema: str, name: str, table: Table) -> Iterator[Hashes]:
    """The hashes of the keys of a table, by the server's own function."""
    from adbc_driver_manager import Error as AdbcError

    query = f'SELECT hashtextextended("{table.key[0]}", 0) AS hash FROM "{schema}"."{name}"'
    try:
        for frame in read_frames(query):
            yield frame["hash"].to_numpy().view(np.uint64)
    except (AdbcError, pa.ArrowException, OSError) as error:
        # As a server that is gone during any other part of a batch: it is tried again.
        raise WarehouseError(
            f"The keys of {schema}.{name} could not be read ({type(error).__name__}); see the server's log."
        ) from None


def _drop(connection: Connection, release: Release, found: Hashes) -> int:
    """Drop the staged records of the given hashes whose key does stand."""
    names = {
        "s": sql.Identifier(STAGING, release.staging),
        "o": sql.Identifier(release.table.zone, release.table.name),
        "k": sql.Identifier(release.table.key[0]),
    }
    connection.execute(
        sql.SQL(
            "CREATE TEMPORARY TABLE may_stand ON COMMIT DROP AS "
            "SELECT {k} FROM {s} WHERE hashtextextended({k}, 0) = ANY(%s)"
        ).format(**names),
        [found.view(np.int64).tolist()],
    )
    # The planner must know how few they are, or it would read all of the table.
    connection.execute("ANALYZE pg_temp.may_stand")
    dropped = connection.execute(
        sql.SQL(
            "DELETE FROM {s} s USING (SELECT m.{k} FROM pg_temp.may_stand m JOIN {o} o ON o.{k} = m.{k}) d "
            "WHERE s.{k} = d.{k}"
        ).format(**names)
    ).rowcount
    connection.commit()
    return dropped

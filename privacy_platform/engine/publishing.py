"""The transaction that publishes a batch of a stream, filled while the batch is still worked on.

Adding rows to large, indexed tables is work for one processor, and so are most checks: one after the other they leave
the other processors idle for half of a batch. What is added cannot be seen by anybody before the transaction is
committed, so it is added beside the checks, by a thread and a connection of its own, and rolled back when one fails.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import psycopg
from psycopg import Connection

from privacy_platform.engine.gate import hold_all
from privacy_platform.governance import audit
from privacy_platform.policy.tables import Partition, Table
from privacy_platform.warehouse.append import append
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import Release
from privacy_platform.warehouse.tables import count_rows, partitions
from privacy_platform.warehouse.windows import drop_windows


@dataclass(frozen=True, slots=True)
class Added:
    """What one part has added: its rows, those of its table with them, and the partitions they went to."""

    rows: int
    table_rows: int
    partitions: Sequence[Partition]


class Publishing:
    """A transaction and the thread that fills it; rolled back at the end of the block unless `ended` and committed."""

    def __init__(self) -> None:
        self._connection = connect(Role.PIPELINE)
        # It waits for the batch between one part and the next.
        self._connection.execute("SET idle_in_transaction_session_timeout = 0")
        self._connection.commit()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publishing")
        self._parts: list[Future[Added]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()
        self._connection.close()

    def add(
        self,
        release: Release,
        table: Table,
        *,
        pinned: Mapping[str, int] | None = None,
        replaced: Sequence[datetime] = (),
    ) -> None:
        """Begin to add staged rows to a table, after the parts before.

        Args:
            release: the staged rows, which stay as they are from now on.
            table: where they are added.
            pinned: what was read for them, as `gate.pin` gave it; kept from being replaced until the commit.
            replaced: the windows that go when the rows come.
        """
        self._parts.append(self._pool.submit(self._add, release, table, pinned or {}, replaced))

    def _add(self, release: Release, table: Table, pinned: Mapping[str, int], replaced: Sequence[datetime]) -> Added:
        hold_all(self._connection, table, pinned)
        before = _rows_before(self._connection, table)
        gone = drop_windows(self._connection, table, replaced) if replaced and before is not None else 0
        rows, touched = append(self._connection, release, table)
        return Added(rows, (before or 0) - gone + rows, touched)

    def ended(self) -> tuple[Connection, list[Added]]:
        """Wait until all parts are added; the connection, to put in what else belongs to them and commit."""
        return self._connection, [part.result() for part in self._parts]

    def abandon(self) -> None:
        """Roll back what was not committed, and let go of the staged rows."""
        with suppress(psycopg.Error):
            self._connection.cancel_safe()
        self._pool.shutdown(cancel_futures=True)
        with suppress(psycopg.Error):
            self._connection.rollback()


def _rows_before(connection: Connection, table: Table) -> int | None:
    """The rows of a table by the record, since counting would cost too much each time; None when it does not stand."""
    if not partitions(connection, table):
        return None
    recorded = audit.rows_on_record(connection, table.qualified)
    return count_rows(connection, table.zone, table.name) if recorded is None else recorded[0] - recorded[1]

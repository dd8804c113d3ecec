"""Windowed aggregates, counted in PostgreSQL: all windows, or anew those that something has been added to.

Both ways are one query over different rows, so that what streamed in window by window equals what counting everything
gives. The groups are staged with the number of their people, checked, and published as any release.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

from psycopg import Connection, sql

from privacy_platform.policy.compile import UNKNOWN
from privacy_platform.policy.model import IS_FINAL, WINDOW_START, AggregatePolicy, WindowPolicy
from privacy_platform.policy.tables import Partition, Table
from privacy_platform.warehouse.release import STAGING, Release
from privacy_platform.warehouse.tables import partition_name, partitions, relation_bytes

PEOPLE, ROWS = "_people", "_rows"
Between = tuple[datetime | None, datetime | None]
"""A stretch of time, from the first to before the second; open where there is none."""
# All windows are counted from here.
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH = sql.Literal(_FIRST)


def stage_windows(
    connection: Connection,
    release: Release,
    policy: AggregatePolicy,
    source: Table,
    *,
    complete_until: datetime,
    added: Release | None = None,
    touched: Sequence[datetime] = (),
    between: Between = (None, None),
) -> tuple[int, int]:
    """Fill the staging table of a windowed aggregate with its groups of enough people.

    Args:
        connection: as the pipeline role.
        release: the staged release of the aggregate, with the hidden column `_people`.
        policy: the aggregate.
        source: the anonymized table it is made from.
        complete_until: the time up to which all that was sent has been read.
        added: staged rows about to be added to `source`: then only the windows they touch are counted, with what
            stands in them.
        touched: those windows.
        between: where the windows to count begin, from the first to before the second, if not all are wanted.

    Returns:
        Rows counted, and those of them in groups too small to be shown.
    """
    if added is None:
        rows: sql.Composable = _rows_between(policy, source, between)
    else:
        rows = _rows_of(connection, policy, source, added)
    values = {"touched": list(touched), "complete": complete_until}
    groups = _groups(policy, rows)
    row = connection.execute(
        sql.SQL(
            "WITH groups AS ({groups}), shown AS (INSERT INTO {staging} ({columns}) SELECT {columns} FROM groups "
            "WHERE {people} >= {minimum} RETURNING 1) "
            "SELECT coalesce(sum({rows}), 0)::bigint, "
            "coalesce(sum({rows}) FILTER (WHERE {people} < {minimum}), 0)::bigint FROM groups"
        ).format(
            groups=groups,
            staging=sql.Identifier(STAGING, release.staging),
            columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in release.staged_table.columns),
            people=sql.Identifier(PEOPLE),
            rows=sql.Identifier(ROWS),
            minimum=sql.Literal(policy.minimum_group_size),
        ),
        values,
    ).fetchone()
    connection.commit()
    counted, small = map(int, row) if row else (0, 0)
    return counted, small


def window_cuts(connection: Connection, policy: AggregatePolicy, source: Table, parts: int) -> list[datetime]:
    """Windows that cut the source into so many stretches of time of about as many rows, or fewer.

    Rows are taken to be spread evenly over each of the source's days, or over all of its time where it has no days.
    """
    window = _window(policy)
    low, high = connection.execute(
        sql.SQL("SELECT min({t}), max({t}) FROM {}").format(
            sql.Identifier(source.zone, source.name), t=sql.Identifier(window.column)
        )
    ).fetchall()[0]
    if low is None:
        return []
    spans = [(low, high, 1)]
    standing = partitions(connection, source) if source.partition_column == window.column else []
    # Days that have nothing any more may lie outside.
    days = [p.day for p in standing if p.day is not None and low.date() <= p.day <= high.date()]
    if days:
        sizes = relation_bytes(connection, source.zone, [partition_name(source, Partition(day)) for day in days])
        starts = [datetime.combine(day, time(), UTC) for day in days]
        spans = [(max(s, low), min(s + timedelta(days=1), high), n) for s, n in zip(starts, sizes, strict=True)]
    step = timedelta(minutes=window.minutes)
    return sorted({cut - (cut - _FIRST) % step for cut in even_cuts(spans, parts)})


def even_cuts(spans: Sequence[tuple[datetime, datetime, int]], parts: int) -> list[datetime]:
    """Where to cut time for parts of the same weight; `spans` are stretches of it in order, each with its weight."""
    weight, cuts = sum(size for *_, size in spans), []
    for part in range(1, parts):
        wanted, before = weight * part / parts, 0
        for start, end, size in spans:
            if before + size > wanted:
                cuts.append(start + (end - start) * ((wanted - before) / size))
                break
            before += size
    return cuts


def touched_windows(connection: Connection, policy: AggregatePolicy, added: Release) -> list[datetime]:
    """The windows that staged rows fall into."""
    rows = connection.execute(
        sql.SQL("SELECT DISTINCT {} FROM {} r ORDER BY 1").format(
            _start(_window(policy)), sql.Identifier(STAGING, added.staging)
        )
    ).fetchall()
    return [start for (start,) in rows]


def sum_of(connection: Connection, release: Release, column: str) -> int:
    """The sum of a column over the staged groups."""
    row = connection.execute(
        sql.SQL("SELECT coalesce(sum({}), 0)::bigint FROM {}").format(
            sql.Identifier(column), sql.Identifier(STAGING, release.staging)
        )
    ).fetchone()
    return int(row[0]) if row else 0


def late_rows(connection: Connection, policy: AggregatePolicy, added: Release, complete_until: datetime) -> int:
    """How many staged rows belong to windows that are final already."""
    window = _window(policy)
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM {} r WHERE {} <= %s").format(
            sql.Identifier(STAGING, added.staging), _start(window)
        ),
        [complete_until - closes_after(window)],
    ).fetchone()
    return int(row[0]) if row else 0


def drop_windows(connection: Connection, table: Table, touched: Sequence[datetime]) -> int:
    """Remove the windows that are about to be put in anew, in the caller's transaction; returns the rows gone."""
    return connection.execute(
        sql.SQL("DELETE FROM {} WHERE {} = ANY(%s)").format(
            sql.Identifier(table.zone, table.name), sql.Identifier(WINDOW_START)
        ),
        [list(touched)],
    ).rowcount


def settle(connection: Connection, policy: AggregatePolicy, table: Table, complete_until: datetime) -> int:
    """Mark the windows as final that nothing can be late for any more, in the caller's transaction."""
    return connection.execute(
        sql.SQL("UPDATE {} SET {f} = true WHERE NOT {f} AND {} <= %s").format(
            sql.Identifier(table.zone, table.name), sql.Identifier(WINDOW_START), f=sql.Identifier(IS_FINAL)
        ),
        [complete_until - closes_after(_window(policy))],
    ).rowcount


def closes_after(window: WindowPolicy) -> timedelta:
    """The time from a window's start until it is final."""
    return timedelta(minutes=window.minutes + window.lateness_minutes)


def _window(policy: AggregatePolicy) -> WindowPolicy:
    assert policy.window is not None  # noqa: S101 - only called for windowed aggregates
    return policy.window


def _start(window: WindowPolicy) -> sql.Composed:
    return sql.SQL("date_bin({}, r.{}, {})").format(
        sql.Literal(timedelta(minutes=window.minutes)), sql.Identifier(window.column), _EPOCH
    )


def _rows_between(policy: AggregatePolicy, source: Table, between: Between) -> sql.Composable:
    """All rows of the windows in a stretch of time."""
    column = sql.Identifier(_window(policy).column)
    low, high = between
    bounds = [sql.SQL("{} >= {}").format(column, low)] if low else []
    bounds += [sql.SQL("{} < {}").format(column, high)] if high else []
    return sql.SQL("SELECT * FROM {} WHERE {}").format(
        sql.Identifier(source.zone, source.name), sql.SQL(" AND ").join(bounds) if bounds else sql.SQL("true")
    )


def _rows_of(connection: Connection, policy: AggregatePolicy, source: Table, added: Release) -> sql.Composable:
    """The columns an aggregate uses, of the rows that stand in the touched windows and of the staged ones."""
    window = _window(policy)
    names = dict.fromkeys([window.column, policy.unit, *(d.column for d in policy.dimensions.values())])
    columns = sql.SQL(", ").join(sql.SQL("e.{}").format(sql.Identifier(name)) for name in names)
    fresh = sql.SQL("SELECT {} FROM {} e").format(columns, sql.Identifier(STAGING, added.staging))
    if connection.execute("SELECT to_regclass(%s)", [f'"{source.zone}"."{source.name}"']).fetchone() == (None,):
        return fresh
    return sql.SQL(
        "SELECT {columns} FROM unnest(%(touched)s::timestamptz[]) AS w(start) JOIN {source} e "
        "ON e.{time} >= w.start AND e.{time} < w.start + {length} UNION ALL {fresh}"
    ).format(
        columns=columns,
        source=sql.Identifier(source.zone, source.name),
        time=sql.Identifier(window.column),
        length=sql.Literal(timedelta(minutes=window.minutes)),
        fresh=fresh,
    )


def _groups(policy: AggregatePolicy, rows: sql.Composable) -> sql.Composed:
    """One row a group, by way of a row for each person in it: people are counted without `distinct`."""
    window = _window(policy)
    dimensions = [
        sql.SQL("coalesce(r.{}::text, {})").format(sql.Identifier(dimension.column), sql.Literal(UNKNOWN))
        for dimension in policy.dimensions.values()
    ]
    measures = [
        sql.SQL("{} AS {}").format(
            sql.SQL("sum(n)::bigint") if measure.kind == "count" else sql.SQL("count(*)"), sql.Identifier(name)
        )
        for name, measure in policy.measures.items()
    ]
    names = [sql.Identifier(WINDOW_START), *map(sql.Identifier, policy.dimensions)]
    return sql.SQL(
        "SELECT {names}, {measures}, {start} <= %(complete)s::timestamptz - {closes} AS {final}, "
        "count(*) AS {people}, sum(n)::bigint AS {count} FROM (SELECT {group}, r.{unit}, count(*) AS n FROM ({rows}) r "
        "GROUP BY {group}, r.{unit}) AS persons ({names}, unit, n) GROUP BY {names}"
    ).format(
        names=sql.SQL(", ").join(names),
        measures=sql.SQL(", ").join(measures),
        start=sql.Identifier(WINDOW_START),
        closes=sql.Literal(closes_after(window)),
        final=sql.Identifier(IS_FINAL),
        people=sql.Identifier(PEOPLE),
        count=sql.Identifier(ROWS),
        group=sql.SQL(", ").join([_start(window), *dimensions]),
        unit=sql.Identifier(policy.unit),
        rows=rows,
    )

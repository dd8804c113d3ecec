"""The clicks: sessions of people on a shop, one slice of a day at a time.

A run is planned as slices of bounded size (a day, or a part of a busy day); a slice is a pure function of
its plan, so slices are computed side by side in bounded memory. A session belongs to one user, device,
browser and address, and lies within one day and one slice; rows are sorted by time within a slice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from privacy_platform.synthetic import catalogue, draw
from privacy_platform.synthetic.draw import F64, I64
from privacy_platform.synthetic.users import UserSpace, clock_curve, ip_texts, user_ids

SLICE_ROWS = 65_536
"""Most events in one slice; what bounds the memory."""

EVENT_SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(), "user_id": pl.String(), "event_type": pl.String(), "timestamp": pl.String(),
    "page_url": pl.String(), "referrer": pl.String(), "device_type": pl.String(), "browser": pl.String(),
    "session_id": pl.String(), "ip_address": pl.String(), "search_query": pl.String(),
    "product_id": pl.String(), "quantity": pl.Int64(), "price": pl.Float64(), "video_id": pl.String(),
    "duration_seconds": pl.Int64(),
}  # fmt: skip

EVENT_WEIGHTS: Mapping[str, int] = {
    "page_view": 50, "click": 20, "search": 10, "add_to_cart": 8, "login": 5, "video_play": 5, "logout": 3,
    "purchase": 2, "video_complete": 2, "signup": 1,
}  # fmt: skip
"""Relative frequency of each type of event (they are normalised)."""

(_VIEW, _CLICK, _SEARCH, _CART, _LOGIN, _PLAY, _LOGOUT, _BUY, _COMPLETE, _SIGNUP) = range(10)
_TYPES = pl.Series(list(EVENT_WEIGHTS))
_TYPE_OF_TICKET = np.repeat(np.arange(10), list(EVENT_WEIGHTS.values()))
_PHASE = np.array([2, 2, 2, 2, 1, 2, 5, 4, 3, 0])
"""Where in a session each type belongs: sign-up, log-in, browsing, finished video, purchase, log-out."""
_FIXED_PAGE = np.array([
    -1, -1, catalogue.SEARCH, -2, catalogue.LOGIN, -3, catalogue.LOGOUT, catalogue.CHECKOUT,
    -3, catalogue.SIGNUP,
])  # fmt: skip
"""The page of each type; -1 any page, -2 the product's, -3 the video's."""
_WEEKDAYS = (1.0, 1.02, 1.03, 1.05, 1.08, 0.92, 0.9)
_MEAN_LENGTH = 8.0
_LONGEST = 60
_MEAN_GAP_MS = 38_000.0
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a day: its number in the run, the shares of the day's activity it spans, its events."""

    number: int
    day: date
    low: float
    high: float
    rows: int
    first_event: int


def plan(events: int, end: date, days: int) -> list[Slice]:
    """Slices in the order of time whose rows add up to ``events`` over ``days`` days ending at ``end``."""
    dates = [end - timedelta(days=days - 1 - n) for n in range(days)]
    bounds = np.floor(np.concatenate([[0.0], draw.cumulative([_WEEKDAYS[d.weekday()] for d in dates])]) * events)
    slices: list[Slice] = []
    edges = [int(bound) for bound in bounds]
    for day, low, high in zip(dates, edges[:-1], edges[1:], strict=True):
        parts = -(-(high - low) // SLICE_ROWS)
        for k in range(parts):
            first, last = low + (high - low) * k // parts, low + (high - low) * (k + 1) // parts
            slices.append(Slice(len(slices), day, k / parts, (k + 1) / parts, last - first, first))
    return slices


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Sessions of a slice as parallel arrays, with their texts."""

    length: I64
    start: I64
    begin_ms: F64
    user: pl.Series
    session: pl.Series
    ip: pl.Series
    device: I64
    browser: I64
    referrer: I64
    product: I64
    video: I64


def _lengths(rng: np.random.Generator, rows: int) -> I64:
    """Lengths of sessions that add up to ``rows``."""
    drawn = np.empty(0, dtype=np.int64)
    while drawn.sum() < rows:
        more = rng.geometric(1 / _MEAN_LENGTH, int(rows / _MEAN_LENGTH * 1.1) + 16)
        drawn = np.concatenate([drawn, np.minimum(more, _LONGEST)])
    ends = np.cumsum(drawn)
    count = int(np.searchsorted(ends, rows)) + 1
    lengths = drawn[:count]
    lengths[-1] -= ends[count - 1] - rows
    return lengths


def _popular(rng: np.random.Generator, count: int, size: int) -> I64:
    """Indices below ``count`` of which a few are much more frequent."""
    return (count * rng.random(size) ** 2.2).astype(np.int64)


def _devices(space: UserSpace, rng: np.random.Generator, users: I64) -> tuple[I64, I64]:
    """Device and browser of each session: three in four on the user's usual ones."""
    count = len(users)
    habit = draw.bits(draw.stream(space.seed, "device"), users.astype(np.uint64))
    usual = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2])[(habit % np.uint64(10)).astype(np.int64)]
    device = np.where(rng.random(count) < 0.75, usual, np.array([0, 0, 1, 1, 2])[rng.integers(0, 5, count)])
    fixed = (habit >> np.uint64(40)).astype(np.float64) / 2.0**24
    u = np.where(rng.random(count) < 0.85, fixed, rng.random(count))
    shares = np.vstack([draw.cumulative(weights) for weights in catalogue.BROWSER_WEIGHTS])[device]
    return device, (u[:, None] >= shares).sum(axis=1)


def _sessions(space: UserSpace, part: Slice, rng: np.random.Generator) -> _Sessions:
    length = _lengths(rng, part.rows)
    count = len(length)
    users = space.pick_active(rng.random(count))
    device, browser = _devices(space, rng, users)
    begin = np.interp(rng.uniform(part.low, part.high, count), *clock_curve()) * 1000
    away = np.flatnonzero(rng.random(count) < 0.12)
    foreign = ip_texts(rng.integers(0, 1 << 63, len(away), dtype=np.uint64))
    where = np.arange(count)
    where[away] = count + np.arange(len(away))
    shares = draw.cumulative([weight for _, weight in catalogue.EXTERNAL_REFERRERS])
    numbers = np.arange(count, dtype=np.uint64) + np.uint64(part.number << 32)
    return _Sessions(
        length=length,
        start=np.cumsum(length) - length,
        begin_ms=begin,
        user=user_ids(users),
        session=draw.hex_ids("sess_", draw.bits(draw.stream(space.seed, "session"), numbers)),
        ip=pl.concat([space.ip(users), foreign]).gather(where),
        device=device,
        browser=browser,
        referrer=draw.choose(shares, rng.random(count)),
        product=_popular(rng, catalogue.PRODUCTS, count),
        video=_popular(rng, catalogue.VIDEOS, count),
    )


def _times(sessions: _Sessions, of: I64, rng: np.random.Generator) -> I64:
    """Milliseconds of the day of each event; a session that would pass midnight is moved back."""
    gaps = rng.exponential(_MEAN_GAP_MS, len(of)) + 400
    gaps[sessions.start] = 0
    elapsed = np.cumsum(gaps)
    elapsed -= elapsed[sessions.start][of]
    span = elapsed[sessions.start + sessions.length - 1]
    begin = np.minimum(sessions.begin_ms, _DAY_MS - 1 - span)
    return np.asarray((begin[of] + elapsed).astype(np.int64))


def _optional(pool: pl.Series, index: I64, present: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> pl.Series:
    """``pool[index]`` where ``present``, null elsewhere."""
    with_null = pl.concat([pool, pl.Series([None], dtype=pool.dtype)])
    return with_null.gather(np.where(present, index, len(pool)))


def _durations(rng: np.random.Generator, kind: I64, video: I64) -> I64:
    lengths = catalogue.video_seconds()[video]
    page = np.minimum(np.exp(rng.normal(3.2, 1.0, len(kind))), 1_800)
    played = np.where(kind == _COMPLETE, lengths, np.ceil(lengths * rng.random(len(kind))))
    return np.where(kind == _VIEW, np.maximum(page, 1), played).astype(np.int64)


def _pages(rng: np.random.Generator, kind: I64, product: I64, video: I64) -> I64:
    page = _FIXED_PAGE[kind]
    count = len(kind)
    static = draw.choose(draw.cumulative(catalogue.STATIC_WEIGHTS), rng.random(count))
    browsed = np.where(rng.random(count) < 0.4, catalogue.FIRST_PRODUCT_PAGE + product, static)
    page = np.where(page == -1, browsed, page)
    page = np.where(page == -2, catalogue.FIRST_PRODUCT_PAGE + product, page)
    return np.where(page == -3, catalogue.FIRST_VIDEO_PAGE + video, page)


def slice_frame(space: UserSpace, part: Slice, *, typed: bool = False) -> pl.DataFrame:
    """The events of one slice in `EVENT_SCHEMA`; real timestamps instead of text when ``typed``."""
    rng = np.random.Generator(np.random.PCG64([space.seed, 0xE7E, part.number]))
    sessions = _sessions(space, part, rng)
    of = np.repeat(np.arange(len(sessions.length)), sessions.length)
    kind = _TYPE_OF_TICKET[rng.integers(0, len(_TYPE_OF_TICKET), part.rows)]
    kind = kind[np.argsort(of * 8 + _PHASE[kind], kind="stable")]
    millis = _times(sessions, of, rng)
    focused = (rng.random(part.rows) < 0.5) | (kind == _CART) | (kind == _BUY)
    product = np.where(focused, sessions.product[of], _popular(rng, catalogue.PRODUCTS, part.rows))
    video = sessions.video[of]
    page = _pages(rng, kind, product, video)
    referrer = np.roll(page, 1) + len(catalogue.EXTERNAL_REFERRERS)
    referrer[sessions.start] = sessions.referrer
    quantity = np.minimum(rng.geometric(0.7, part.rows), 9)
    duration = _durations(rng, kind, video)

    order = np.argsort(millis, kind="stable")
    of, kind, millis, product, video = of[order], kind[order], millis[order], product[order], video[order]
    page, referrer, quantity, duration = page[order], referrer[order], quantity[order], duration[order]
    ordered = (kind == _CART) | (kind == _BUY)
    watched = (kind == _PLAY) | (kind == _COMPLETE)
    on_product = ordered | ((page >= catalogue.FIRST_PRODUCT_PAGE) & (page < catalogue.FIRST_VIDEO_PAGE))
    phrases = catalogue.search_phrases()
    numbers = np.arange(part.first_event, part.first_event + part.rows, dtype=np.uint64)
    return pl.DataFrame({
        "event_id": draw.hex_ids("evt_", draw.bits(draw.stream(space.seed, "event"), numbers)),
        "user_id": sessions.user.gather(of),
        "event_type": _TYPES.gather(kind),
        "timestamp": _stamp(part.day, millis, typed),
        "page_url": catalogue.PAGES.gather(page),
        "referrer": catalogue.REFERRERS.gather(referrer),
        "device_type": catalogue.DEVICES.gather(sessions.device[of]),
        "browser": catalogue.BROWSERS.gather(sessions.browser[of]),
        "session_id": sessions.session.gather(of),
        "ip_address": sessions.ip.gather(of),
        "search_query": _optional(phrases, _popular(rng, len(phrases), part.rows), kind == _SEARCH),
        "product_id": _optional(catalogue.PRODUCT_IDS, product, on_product),
        "quantity": _optional(pl.Series(np.arange(10)), quantity, ordered),
        "price": _optional(pl.Series(catalogue.prices()), product, ordered),
        "video_id": _optional(catalogue.VIDEO_IDS, video, watched),
        "duration_seconds": _optional(pl.Series(duration), np.arange(part.rows), watched | (kind == _VIEW)),
    })  # fmt: skip


def _stamp(day: date, millis: I64, typed: bool) -> pl.Series:
    if typed:
        return pl.Series(millis + draw.epoch_seconds(day) * 1000).cast(pl.Datetime("ms", "UTC"))
    return draw.iso_millis(day, millis)

"""Time is cut where the rows are."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from privacy_platform.warehouse.windows import even_cuts

FIRST = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Spans = list[tuple[datetime, datetime, int]]


def weight_between(spans: Spans, low: datetime, high: datetime) -> float:
    """What of the spans' weight lies in a stretch of time."""
    within = [(max(start, low), min(end, high), end - start, size) for start, end, size in spans]
    return sum(size * ((end - start) / length) for start, end, length, size in within if end > start)


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 10**9)), min_size=1, max_size=40), st.integers(1, 50))
def test_stretches_of_the_same_weight(gaps: list[tuple[int, int]], parts: int) -> None:
    spans, day = Spans(), FIRST
    for gap, size in gaps:
        day += gap * DAY
        spans.append((day, day + DAY, size))
    cuts = even_cuts(spans, parts)
    whole = sum(size for *_, size in spans)
    assert cuts == sorted(cuts)
    assert len(cuts) == (parts - 1 if whole else 0)
    if whole:
        for low, high in pairwise([FIRST, *cuts, day + DAY]):
            # Instants are whole microseconds.
            assert abs(weight_between(spans, low, high) - whole / parts) <= 1 + whole / 10**9


def test_a_day_of_long_ago_takes_no_stretch_from_the_others() -> None:
    spans = [
        (FIRST - 800 * DAY, FIRST - 799 * DAY, 8192),
        (FIRST, FIRST + DAY, 10**8),
        (FIRST + DAY, FIRST + 2 * DAY, 10**8),
    ]
    assert all(FIRST < cut < FIRST + 2 * DAY for cut in even_cuts(spans, 20))


def test_of_one_instant_there_is_nothing_to_cut() -> None:
    assert even_cuts([(FIRST, FIRST, 5)], 3) == [FIRST, FIRST]

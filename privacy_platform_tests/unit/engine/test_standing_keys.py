"""The filter of keys that stand: it misses none, and takes few others for one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from privacy_platform.engine.standing_keys import KeyFilter

HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=50)


@given(HASHES, HASHES, HASHES)
def test_what_was_put_in_is_held(first: list[int], second: list[int], others: list[int]) -> None:
    keys = KeyFilter(0)
    for part in (first, second):
        keys.add(np.array(part, dtype=np.uint64))
    assert keys.holds(np.array([*first, *second], dtype=np.uint64)).all()
    held = keys.holds(np.array(others, dtype=np.uint64))
    assert held[[other in {*first, *second} for other in others]].all()


def test_little_else_is_held_even_when_it_is_full() -> None:
    draw = np.random.default_rng(5)
    keys = KeyFilter(0)
    while not keys.full:
        keys.add(draw.integers(0, 2**64, size=2**19, dtype=np.uint64))
    assert 0.001 < keys.holds(draw.integers(0, 2**64, size=200_000, dtype=np.uint64)).mean() < 0.01
    larger = KeyFilter(2**22 + 1)
    larger.add(draw.integers(0, 2**64, size=2**22, dtype=np.uint64))
    assert not larger.full
    assert larger.holds(draw.integers(0, 2**64, size=200_000, dtype=np.uint64)).mean() < 0.001

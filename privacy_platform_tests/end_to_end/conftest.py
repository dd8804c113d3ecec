"""What the end-to-end tests share: homes that are gone, with their servers, after each module."""

from collections.abc import Callable, Iterator

import pytest

from privacy_platform_tests.end_to_end.homes import Home, new_home


@pytest.fixture(scope="module")
def homes() -> Iterator[Callable[..., Home]]:
    """Makes homes; keyword arguments become environment variables of their processes."""
    made: list[Home] = []

    def make(**extra: str) -> Home:
        made.append(new_home(**extra))
        return made[-1]

    try:
        yield make
    finally:
        for home in made:
            home.discard()

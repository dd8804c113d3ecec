"""Failures as Dagster sees them: in words that hold no value of the data, tried again only where that can help."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from privacy_platform.engine.gate import WarehouseError
from privacy_platform.engine.stage import StageError, place_of
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.warehouse.release import ReleaseBusyError

# Only what may pass by itself is tried again: a lost connection, a lock held too long, a table that another run is
# releasing, as a stream's batch does for some seconds. A failed check never is.
RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
TRANSIENT = (WarehouseError, StageError, ReleaseBusyError)


@contextmanager
def discreet_failures(name: str) -> Iterator[None]:
    """Turn what the block raises into `Failure`s; `name` is what was to be published.

    Raises:
        dagster.Failure: always, when the block raises.
    """
    try:
        yield
    except dg.Failure:
        raise
    except TRANSIENT as error:
        raise dg.Failure(description=str(error)) from None
    except PrivacyPlatformError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
    except Exception as error:
        # A library's own message can hold values of the data, and Dagster keeps messages for long.
        description = f"{name} was not published: {place_of(error)}. Please report it."
        raise dg.Failure(description=description, allow_retries=False) from None

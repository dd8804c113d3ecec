"""Failures as Dagster sees them: which are tried again, and that no message of a library gets through."""

import dagster as dg
import pytest

from privacy_platform.defs.failures import discreet_failures
from privacy_platform.engine.gate import WarehouseError
from privacy_platform.engine.stage import StageError, TaskRefusedError
from privacy_platform.warehouse.release import ReleaseBusyError


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (WarehouseError("the server is gone"), True),
        (StageError("a task was lost"), True),
        (ReleaseBusyError("another run has it"), True),
        (TaskRefusedError("the keyring is another one"), False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(error: Exception, again: bool) -> None:
    with pytest.raises(dg.Failure) as caught, discreet_failures("raw_users"):
        raise error
    assert caught.value.allow_retries is again
    assert caught.value.description == str(error)


def test_a_message_of_a_library_does_not_get_through() -> None:
    with pytest.raises(dg.Failure) as caught, discreet_failures("raw_users"):
        raise ValueError("could not convert anna@example.org")
    assert caught.value.allow_retries is False
    assert "raw_users was not published" in str(caught.value.description)
    assert "anna" not in str(caught.value.description)
    assert caught.value.__cause__ is None

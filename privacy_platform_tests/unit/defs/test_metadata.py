"""What Dagster is told of checks: a check that was not made is neither passed nor an error."""

import dagster as dg

from privacy_platform.defs.metadata import check_results
from privacy_platform.warehouse.checks import CheckOutcome, not_run


def test_a_check_that_was_not_made_is_a_warning_and_does_not_pass() -> None:
    outcomes = [CheckOutcome("a", True, "good"), CheckOutcome("b", False, "bad"), not_run("c", "nothing to look at")]
    results = [
        (each.check_name, each.passed, each.severity, each.description)
        for each in check_results(dg.AssetKey("x"), outcomes)
    ]
    assert results == [
        ("a", True, dg.AssetCheckSeverity.ERROR, "good"),
        ("b", False, dg.AssetCheckSeverity.ERROR, "bad"),
        ("c", False, dg.AssetCheckSeverity.WARN, "not run: nothing to look at"),
    ]

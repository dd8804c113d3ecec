"""Why no generalization is enough, and what would help, in words and figures."""

import math
from collections.abc import Sequence
from dataclasses import replace

from privacy_platform.anonymization.kanonymity.evaluate import Classes, suppressible, unpublishable
from privacy_platform.anonymization.kanonymity.grouping import Table, group
from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.recoding import UnreachableError
from privacy_platform.anonymization.kanonymity.requirements import Requirements
from privacy_platform.anonymization.kanonymity.tuples import Tuples

__all__ = ["unreachable"]

_NAMED = 3
"""So many columns are named at most."""


def unreachable(
    tuples: Tuples,
    ladders: Sequence[Ladder],
    requirements: Requirements,
    levels: Sequence[int],
    suppressed: int | None = None,
) -> UnreachableError:
    """The error to raise when nothing satisfies the requirements within the suppression limit.

    Args:
        tuples: the table; it has records.
        ladders: what each quasi-identifier can become.
        requirements: what cannot be satisfied.
        levels: the coarsest level that is allowed for each quasi-identifier.
        suppressed: the fewest records that would have to be suppressed, if fewer are known than at these levels.
    """
    table = Table.of(tuples)
    classes = group(table, ladders, levels).classes()
    at_coarsest = _suppressed(classes, requirements)
    fewest = at_coarsest if suppressed is None else min(at_coarsest, suppressed)
    share = fewest / tuples.records
    without = {
        ladder.name: _suppressed(_classes_without(table, ladders, levels, i), requirements) / tuples.records
        for i, ladder in enumerate(ladders)
    }
    costly = sorted((name for name in without if without[name] < share), key=lambda name: (without[name], name))
    message = (
        f"{_demand(requirements)} cannot be reached: the least suppression found is {share:.1%} of the records, "
        f"and the limit is {requirements.suppression_limit:.1%}."
    )
    if costly:
        named = ", ".join(f"{without[name]:.1%} without `{name}`" for name in costly[:_NAMED])
        message += f" The columns that cost most: it would be {named}."
    largest = _largest_k(classes, requirements, suppressible(tuples.records, requirements))
    help_ = [f"a coarser last level for `{costly[0]}`, or not publishing it"] if costly else []
    # Rounded up, so that the figure does help.
    help_ += [f"a suppression limit of at least {math.ceil(share * 1000) / 1000:.1%}"] if share < 1 else []
    help_ += [f"k of at most {largest}"] if largest > 1 else []
    help_ = help_ or ["more records, or weaker requirements"]
    return UnreachableError(f"{message} What would help: {'; '.join(help_)}.", share, without)


def _demand(requirements: Requirements) -> str:
    names = ", ".join(f"`{name}`" for name in requirements.sensitive)
    return f"k = {requirements.k}" + (f" with what is demanded of {names}" if names else "")


def _suppressed(classes: Classes, requirements: Requirements) -> int:
    return int(classes.counts[unpublishable(classes, requirements)].sum())


def _classes_without(table: Table, ladders: Sequence[Ladder], levels: Sequence[int], column: int) -> Classes:
    rest = [i for i in range(len(ladders)) if i != column]
    narrower = Table(tuple(table.columns[i] for i in rest), table.counts, table.sensitive)
    return group(narrower, [ladders[i] for i in rest], [levels[i] for i in rest]).classes()


def _largest_k(classes: Classes, requirements: Requirements, limit: int) -> int:
    """The largest smaller k that these classes can satisfy within the limit; 0 if there is none."""
    fits, fails = 0, requirements.k
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if _suppressed(classes, replace(requirements, k=middle)) <= limit:
            fits = middle
        else:
            fails = middle
    return fits

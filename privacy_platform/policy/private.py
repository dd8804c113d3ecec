"""What a private aggregate asks of the data: its measures as queries in whole numbers, and the plan of their noise.

The vocabulary that `engine.bounding` computes by and `figures` reads by:

* counts: rows, or units, each counting one.
* sums in fixed point: the distance of a value from the middle of its clamp (for `sum` from zero), in steps of the
  clamp's half width / 2**20. So a sum of 2**42 rows still fits 64 bits.
"""

from dataclasses import replace

from privacy_platform.anonymization.dp.plan import Plan, Query, make_plan
from privacy_platform.anonymization.dp.postprocess import Range
from privacy_platform.policy.model import AggregatePolicy, Measure
from privacy_platform.policy.privacy import PrivacyPolicy

__all__ = [
    "KEYS",
    "PEOPLE",
    "STEPS",
    "bin_edges",
    "clamp_of",
    "found_dimensions",
    "people_measures",
    "plan_of",
    "queries_of",
    "query_column",
]

STEPS = 2**20
# Hidden columns begin with an underscore, as no name in a policy can.
PEOPLE = "_people"
KEYS = "_keys"


def query_column(measure: str, part: str = "") -> str:
    """The hidden column that holds a query's whole numbers."""
    return f"_q_{measure}" + (f"__{part}" if part else "")


def clamp_of(privacy: PrivacyPolicy, measure: str) -> Range:
    """What the values of a measure are cut to; only for those that have it."""
    clamp = privacy.of(measure).clamp
    assert clamp is not None  # noqa: S101 - the policy was validated
    return Range(*clamp)


def bin_edges(policy: AggregatePolicy, name: str) -> list[float]:
    """The edges between which a histogram's or quantile's rows are counted."""
    measure = policy.measures[name]
    if measure.kind == "histogram":
        return list(measure.edges)
    assert policy.privacy is not None  # noqa: S101 - only private aggregates count rows for quantiles
    clamp, bins = clamp_of(policy.privacy, name), policy.privacy.of(name).bins
    return [clamp.low + (clamp.high - clamp.low) * number / bins for number in range(bins + 1)]


def found_dimensions(policy: AggregatePolicy) -> list[str]:
    """The dimensions whose keys are found in the data, for want of known ones."""
    known = policy.privacy.known if policy.privacy else {}
    return [name for name in policy.dimensions if name not in known]


def people_measures(policy: AggregatePolicy) -> list[str]:
    """The measures that are the number of a group's units and nothing else."""
    return [name for name, m in policy.measures.items() if m.kind == "count_distinct" and not m.where]


def queries_of(policy: AggregatePolicy) -> list[Query]:
    """The queries of a private aggregate.

    The one named `_people` counts a group's units. Where some dimensions have known keys and others have not, `_keys`
    counts the units of every combination of the latter: what the threshold looks at. Else the former serves for both.
    """
    privacy = policy.privacy
    assert privacy is not None  # noqa: S101 - only for private aggregates
    people = people_measures(policy)
    queries = [q for name, m in policy.measures.items() if name not in people for q in _queries(policy, name, m)]
    if people:
        queries.append(Query(PEOPLE, people[0], (PEOPLE,), 1, sum(privacy.of(name).share for name in people)))
    keys = _keys_query(policy)
    if keys == KEYS or (keys == PEOPLE and not people):
        bound = privacy.keys_per_unit if keys == KEYS else None
        queries.append(Query(keys, "(keys)", (keys,), 1, privacy.keys_share, groups=bound))
    return queries


def _keys_query(policy: AggregatePolicy) -> str | None:
    """The query that the threshold on keys looks at; None when all are known."""
    found = found_dimensions(policy)
    if not found:
        return None
    return PEOPLE if len(found) == len(policy.dimensions) else KEYS


def plan_of(policy: AggregatePolicy) -> Plan:
    """The noise of a private aggregate.

    Raises:
        PlanError: the parameters allow no private release.
    """
    privacy = policy.privacy
    assert privacy is not None  # noqa: S101 - only for private aggregates
    return make_plan(
        queries_of(policy),
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        groups=privacy.groups_per_unit,
        keys=_keys_query(policy),
    )


def _queries(policy: AggregatePolicy, name: str, measure: Measure) -> list[Query]:
    privacy = policy.privacy
    assert privacy is not None  # noqa: S101 - only for private aggregates
    rows, share = privacy.rows(name), privacy.of(name).share
    every = privacy.rows_per_unit

    def query(part: str, each: int = 1, portion: float = 1.0, step: float = 1.0) -> Query:
        """Of sums to which a row adds at most `each` steps."""
        column, total = query_column(name, part), None if every is None else every * each
        return Query(column, name, (column,), rows * each, share * portion, step, total=total)

    if measure.kind == "ratio":
        return []
    if measure.kind == "count":
        return [query("")]
    if measure.kind == "count_distinct":
        return [replace(query(""), most=1)]
    if measure.kind in ("histogram", "quantile"):
        columns = tuple(query_column(name, str(n + 1)) for n in range(len(bin_edges(policy, name)) - 1))
        return [Query(query_column(name), name, columns, rows, share, total=every)]
    clamp = clamp_of(privacy, name)
    if measure.kind == "sum":
        largest = max(abs(clamp.low), abs(clamp.high))
        return [query("", STEPS, step=largest / STEPS)]
    # Of a mean's noise the sum's weighs more: a count's is multiplied by how far the mean is from the middle.
    means = [query("sum", STEPS, 2 / 3, clamp.half / STEPS), query("count", 1, 1 / 3)]
    if measure.kind == "mean":
        return means
    squares = query("squares", STEPS, 1 / 2, clamp.half**2 / 2 / STEPS)
    return [squares, *(replace(q, share=q.share / 2) for q in means)]

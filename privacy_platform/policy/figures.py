"""From the noisy answers of a private aggregate to the columns of its table."""

from collections.abc import Iterable, Sequence
from datetime import date

import numpy as np
import polars as pl

from privacy_platform.anonymization.dp import postprocess
from privacy_platform.anonymization.dp.mechanisms import Integers, noisy
from privacy_platform.anonymization.dp.plan import Plan, PlannedQuery
from privacy_platform.anonymization.dp.postprocess import Estimate
from privacy_platform.policy.compile import UNKNOWN
from privacy_platform.policy.model import AggregatePolicy, Measure, error_column
from privacy_platform.policy.privacy import DateKeys, LandedKeys
from privacy_platform.policy.private import (
    KEYS,
    PEOPLE,
    bin_edges,
    clamp_of,
    found_dimensions,
    people_measures,
    query_column,
)

__all__ = ["add_noise", "figures", "private_answers", "shown"]


def private_answers(
    policy: AggregatePolicy, plan: Plan, answers: pl.DataFrame, *, days: Sequence[date] | None = None
) -> pl.DataFrame:
    """The groups that are shown, with the noise of the plan in every query; nothing exact is left in these columns.

    Args:
        policy: of the aggregate.
        plan: of the release.
        answers: one row a group that has at least one unit: dimensions, and the whole numbers of every query.
        days: those that are asked for, where each is released by itself.

    Returns:
        One row a group: those found in the data that reach the threshold, each with every combination of known keys.
    """
    names = found_dimensions(policy)
    if plan.keys == PEOPLE:
        # The threshold first: the other answers of a group that is not shown need no noise.
        asked = add_noise(plan, answers, [PEOPLE]).filter(pl.col(PEOPLE) >= plan.threshold)
    else:
        asked = pl.DataFrame({"": [0]})
        if plan.keys is not None:
            found = answers.group_by(names).agg(pl.col(KEYS).sum())
            asked = add_noise(plan, found, [KEYS]).filter(pl.col(KEYS) >= plan.threshold).drop(KEYS)
        for name in policy.dimensions:
            if name not in names:
                asked = asked.join(_known(policy, name, answers.schema[name], days), how="cross")
        dimensions = list(policy.dimensions)
        asked = asked.select(dimensions).join(answers, on=dimensions, how="left").fill_null(0)
    return add_noise(plan, asked, [name for name in plan.queries if name != plan.keys])


def add_noise(plan: Plan, answers: pl.DataFrame, queries: Iterable[str]) -> pl.DataFrame:
    """The answers with the plan's noise in the columns of the given queries, whichever groups are shown."""
    for name in queries:
        answers = _noised(plan, plan.queries[name], answers)
    return answers


def _known(policy: AggregatePolicy, name: str, kind: pl.DataType, days: Sequence[date] | None) -> pl.DataFrame:
    """The known keys of a dimension, and `unknown` where a value can be missing."""
    assert policy.privacy is not None  # noqa: S101 - only for private aggregates
    keys, dimension = policy.privacy.known[name], policy.dimensions[name]
    if isinstance(keys, LandedKeys):
        return pl.DataFrame({name: pl.Series(days or [], dtype=kind)})
    if not isinstance(keys, DateKeys):
        missing = [] if dimension.required else [UNKNOWN]
        return pl.DataFrame({name: pl.Series(list(dict.fromkeys([*keys.keys(), *missing])), dtype=kind)})
    every = pl.date_range(keys.first, keys.last, interval="1d", eager=True).alias(name)
    if dimension.truncate == "month":
        return every.dt.truncate("1mo").unique(maintain_order=True).to_frame()
    return every.to_frame() if days is None else every.to_frame().filter(pl.col(name).is_in(list(days)))


def shown(plan: Plan, policy: AggregatePolicy) -> str:
    """What decides which groups a private table shows, as a sentence."""
    found = ", ".join(found_dimensions(policy))
    if plan.threshold is None:
        return f"every combination of the known keys of {', '.join(policy.dimensions)}"
    return f"keys of {found} whose noisy number of units is at least {plan.threshold}"


def _noised(plan: Plan, planned: PlannedQuery, answers: pl.DataFrame) -> pl.DataFrame:
    columns = list(planned.query.columns)
    matrix = answers.select(pl.col(columns).cast(pl.Int64)).to_numpy().astype(np.int64)
    noised = noisy(matrix.ravel(), plan.mechanism, planned.scale).reshape(matrix.shape)
    return answers.with_columns(pl.Series(name, noised[:, i], dtype=pl.Int64) for i, name in enumerate(columns))


def figures(policy: AggregatePolicy, plan: Plan, noised: pl.DataFrame) -> pl.DataFrame:
    """The dimensions, and every figure with the error it is promised; both null where noise leaves nothing to say."""
    found = _Figures(policy, plan, noised)
    columns = []
    for name, measure in policy.measures.items():
        for figure, estimate in zip(measure.figures(name), found.estimates(name), strict=True):
            whole = measure.kind in ("count", "count_distinct", "histogram")
            value = pl.Series(figure, estimate.value, nan_to_null=True)
            columns.append(value.cast(pl.Int64) if whole else value)
            columns.append(pl.Series(error_column(figure), estimate.error, nan_to_null=True))
    return noised.select(list(policy.dimensions)).with_columns(columns)


class _Figures:
    """The estimates of one release, measure by measure."""

    def __init__(self, policy: AggregatePolicy, plan: Plan, noised: pl.DataFrame) -> None:
        assert policy.privacy is not None  # noqa: S101 - only for private aggregates
        self._policy, self._privacy, self._plan, self._noised = policy, policy.privacy, plan, noised
        self._reconciled: dict[str, Estimate] = {}
        for whole, parts in policy.privacy.consistent.items():
            queries = [plan.queries[query_column(name)] for name in (whole, *parts)]
            raw = [postprocess.total(self._numbers(q.query.name), q, low=None) for q in queries]
            total, adjusted = postprocess.reconciled(plan.mechanism, raw[0], raw[1:], queries[0], queries[1:])
            self._reconciled |= {whole: total, **dict(zip(parts, adjusted, strict=True))}

    def estimates(self, name: str) -> list[Estimate]:
        """One estimate for each of the measure's columns."""
        measure = self._policy.measures[name]
        if name in self._reconciled:
            return [self._reconciled[name]]
        if measure.kind == "ratio":
            return [self._ratio(measure)]
        if measure.kind in ("count", "count_distinct", "sum"):
            return [self._total(name, measure)]
        if measure.kind == "histogram":
            query = self._plan.queries[query_column(name)]
            return [postprocess.total(self._numbers(column), query) for column in query.query.columns]
        if measure.kind == "quantile":
            query = self._plan.queries[query_column(name)]
            bins = np.stack([self._numbers(column) for column in query.query.columns], axis=1)
            edges = np.array(bin_edges(self._policy, name))
            return [postprocess.quantile(self._plan.mechanism, bins, query, edges, measure.q or 0.5)]
        return [self._moment(name, measure)]

    def _total(self, name: str, measure: Measure) -> Estimate:
        column = self._total_query(name)
        if measure.kind != "sum":
            return postprocess.total(self._numbers(column), self._plan.queries[column])
        clamp = clamp_of(self._privacy, name)
        low, high = (0.0 if clamp.low >= 0 else None), (0.0 if clamp.high <= 0 else None)
        return postprocess.total(self._numbers(column), self._plan.queries[column], low=low, high=high)

    def _total_query(self, name: str) -> str:
        return PEOPLE if name in people_measures(self._policy) else query_column(name)

    def _ratio(self, measure: Measure) -> Estimate:
        above, below = measure.numerator or "", measure.denominator or ""
        (numerator,), (denominator,) = self.estimates(above), self.estimates(below)
        queries = [self._plan.queries[self._total_query(name)] for name in (above, below)]
        return postprocess.ratio(self._plan.mechanism, numerator, denominator, *queries)

    def _moment(self, name: str, measure: Measure) -> Estimate:
        clamp, mechanism = clamp_of(self._privacy, name), self._plan.mechanism
        sums, of_sum = self._answer(name, "sum")
        counts, of_count = self._answer(name, "count")
        if measure.kind == "mean":
            return postprocess.mean(mechanism, sums, counts, of_sum, of_count, clamp)
        squares, of_squares = self._answer(name, "squares")
        return postprocess.variance(mechanism, sums, squares, counts, of_sum, of_squares, of_count, clamp)

    def _answer(self, name: str, part: str) -> tuple[Integers, PlannedQuery]:
        column = query_column(name, part)
        return self._numbers(column), self._plan.queries[column]

    def _numbers(self, column: str) -> Integers:
        return self._noised[column].to_numpy().astype(np.int64)

"""From the noisy answers of a private aggregate to the columns of its table."""

import numpy as np
import polars as pl

from privacy_platform.anonymization.dp import postprocess
from privacy_platform.anonymization.dp.mechanisms import Integers, noisy
from privacy_platform.anonymization.dp.plan import Plan, PlannedQuery
from privacy_platform.anonymization.dp.postprocess import Estimate
from privacy_platform.policy.model import AggregatePolicy, Measure, error_column
from privacy_platform.policy.private import (
    PEOPLE,
    bin_edges,
    clamp_of,
    people_measures,
    query_column,
)

__all__ = ["add_noise", "figures", "shown"]


def add_noise(plan: Plan, answers: pl.DataFrame) -> pl.DataFrame:
    """The answers with the noise of the plan in every query's columns; nothing exact is left in these.

    Args:
        plan: of the release.
        answers: one row a group: dimensions, and the whole numbers of every query.

    Returns:
        The same rows; with keys found in the data, those that reach the threshold alone.
    """
    if plan.keys is not None:
        # The threshold first: the other answers of a group that is not shown need no noise.
        people = plan.queries[plan.keys]
        answers = _noised(plan, people, answers).filter(pl.col(PEOPLE) >= plan.threshold)
    for name, planned in plan.queries.items():
        if name != plan.keys:
            answers = _noised(plan, planned, answers)
    return answers


def shown(plan: Plan, policy: AggregatePolicy) -> str:
    """What decides which groups a private table shows, as a sentence."""
    if plan.threshold is None:
        return f"every combination of the known keys of {', '.join(policy.dimensions)}"
    return f"groups whose noisy number of people is at least {plan.threshold}"


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
        parts = ("sum", "count") if measure.kind == "mean" else ("sum", "squares", "count")
        columns = [query_column(name, part) for part in parts]
        numbers, queries = [self._numbers(c) for c in columns], [self._plan.queries[c] for c in columns]
        clamp = clamp_of(self._privacy, name)
        estimate = postprocess.mean if measure.kind == "mean" else postprocess.variance
        found: Estimate = estimate(self._plan.mechanism, *numbers, *queries, clamp)
        return found

    def _numbers(self, column: str) -> Integers:
        return self._noised[column].to_numpy().astype(np.int64)

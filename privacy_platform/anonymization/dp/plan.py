"""What a release asks, and how much noise each answer gets: settled before any data is read.

A query is a vector of whole numbers for every group (mostly of one). Contribution bounding has seen to it that a unit
is in at most so many groups and changes each by no more than `most`; from this the sensitivities follow, from these and
the shares of epsilon the scales, and from these the errors that are promised.

Either all queries get discrete Laplace noise, whose epsilons add up, or all get discrete Gaussian noise, whose rhos
do (zCDP): whichever errs less, on the geometric mean. Gaussian noise wins where a unit is in many groups or there are
many queries.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy_platform.anonymization.dp.accounting import Loss, rho_of, together
from privacy_platform.anonymization.dp.keys import threshold
from privacy_platform.anonymization.dp.mechanisms import Mechanism, gaussian_scale, laplace_scale, quantile_95
from privacy_platform.errors import PrivacyPlatformError

__all__ = ["Plan", "PlanError", "PlannedQuery", "Query", "make_plan"]


class PlanError(PrivacyPlatformError):
    """The parameters allow no private release; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Query:
    """One vector of whole numbers a group.

    Attributes:
        name: of the query, unique in its release.
        measure: the figure it is for.
        columns: the vector's parts.
        most: the largest L1 distance by which one unit can change the vector of one group, in steps.
        share: its part of epsilon in relation to the other queries'.
        step: what a difference of one is worth, in the measure's unit: 1 for counts, finer for sums in fixed point.
        groups: in how many vectors one unit can be; None for the release's bound on groups.
        total: the largest L1 distance over all groups together, in steps; None when only the bounds above hold.
    """

    name: str
    measure: str
    columns: tuple[str, ...]
    most: int
    share: float
    step: float = 1.0
    groups: int | None = None
    total: int | None = None

    def l1(self, groups: int) -> int:
        """By how much one unit changes all vectors together, in steps."""
        every = (self.groups or groups) * self.most
        return every if self.total is None else min(every, self.total)

    def l2(self, groups: int) -> float:
        """The same as Euclidean distance: no part is above `most`, so its square is within `most` times L1."""
        return math.sqrt(self.most * self.l1(groups))


@dataclass(frozen=True, slots=True)
class PlannedQuery:
    """A query with its noise.

    Attributes:
        query: what is asked.
        l1: by how much one unit changes all groups' vectors together, in steps.
        l2: the same as Euclidean distance.
        scale: of the noise, in steps: its scale (Laplace) or standard deviation (Gaussian).
        epsilon: the privacy loss; None for Gaussian noise.
        rho: the loss under zCDP.
        error_95: what the noise of one part stays within with a probability of 95 %, in the measure's unit.
    """

    query: Query
    l1: int
    l2: float
    scale: float
    epsilon: float | None
    rho: float
    error_95: float

    @property
    def unit_scale(self) -> float:
        """The scale in the measure's unit."""
        return self.scale * self.query.step


@dataclass(frozen=True, slots=True)
class Plan:
    """The noise of one release.

    Attributes:
        mechanism: of all queries.
        queries: each with its noise, by name.
        loss: what the whole release costs a unit.
        threshold: the noisy number of units at which a group is shown; None when all keys are known beforehand.
        keys: name of the query that counts units for the threshold.
    """

    mechanism: Mechanism
    queries: dict[str, PlannedQuery]
    loss: Loss
    threshold: int | None
    keys: str | None

    def summary(self) -> dict[str, object]:
        """The plan as JSON, for the ledger and metadata."""
        return {
            "mechanism": str(self.mechanism),
            "epsilon": self.loss.epsilon,
            "delta": self.loss.delta,
            "rho": self.loss.rho,
            "threshold": self.threshold,
            "queries": [
                {
                    "query": planned.query.name,
                    "measure": planned.query.measure,
                    "l1": planned.l1 * planned.query.step,
                    "l2": planned.l2 * planned.query.step,
                    "scale": planned.unit_scale,
                    "epsilon": planned.epsilon,
                    "rho": planned.rho,
                    "error_95": planned.error_95,
                }
                for planned in self.queries.values()
            ],
        }


def make_plan(queries: Sequence[Query], *, epsilon: float, delta: float, groups: int, keys: str | None) -> Plan:
    """The plan with the smaller errors.

    Args:
        queries: what is asked; shares count in relation to their sum.
        epsilon: of the whole release.
        delta: of the whole release: for the threshold, and for what Gaussian noise needs; without it noise is Laplace.
        groups: how many groups a unit can be in.
        keys: name of the query that counts a group's units, when groups are shown by threshold.

    Raises:
        PlanError: groups are to be shown by threshold, and delta is zero.
    """
    if keys is not None and delta <= 0:
        raise PlanError("private keys need a delta above zero: give one, or list the keys of every dimension.")
    plans = [_laplace(queries, epsilon, delta, groups, keys)]
    if delta > 0:
        plans.append(_gaussian(queries, epsilon, delta, groups, keys))
    return min(plans, key=lambda plan: sum(math.log(q.error_95) for q in plan.queries.values()))


def _laplace(queries: Sequence[Query], epsilon: float, delta: float, groups: int, keys: str | None) -> Plan:
    total = math.fsum(query.share for query in queries)
    planned = {}
    for query in queries:
        share, distance = epsilon * query.share / total, query.l1(groups)
        scale = laplace_scale(distance, share)
        planned[query.name] = _planned(query, groups, Mechanism.LAPLACE, scale, share, share**2 / 2)
    losses = [Loss.pure(q.epsilon or 0.0) for q in planned.values()]
    return _plan(Mechanism.LAPLACE, planned, together(losses), delta, groups, keys)


def _gaussian(queries: Sequence[Query], epsilon: float, delta: float, groups: int, keys: str | None) -> Plan:
    total = math.fsum(query.share for query in queries)
    noise_delta = delta if keys is None else delta / 2
    # What rounding adds up to is left over, so that the sum is never above.
    whole = rho_of(epsilon, noise_delta) * (1 - 1e-9)
    planned = {}
    for query in queries:
        share = whole * query.share / total
        scale = gaussian_scale(query.l2(groups), share)
        planned[query.name] = _planned(query, groups, Mechanism.GAUSSIAN, scale, None, share)
    loss = Loss.concentrated(math.fsum(q.rho for q in planned.values()), noise_delta)
    return _plan(Mechanism.GAUSSIAN, planned, loss, delta - noise_delta, groups, keys)


def _planned(
    query: Query, groups: int, mechanism: Mechanism, scale: float, epsilon: float | None, rho: float
) -> PlannedQuery:
    error = float(quantile_95(mechanism, [np.array([scale])])[0])
    # Whole numbers are promised a whole number.
    promised = math.ceil(error) * query.step if query.step == 1 else error * query.step
    return PlannedQuery(query, query.l1(groups), query.l2(groups), scale, epsilon, rho, promised)


def _plan(
    mechanism: Mechanism,
    planned: dict[str, PlannedQuery],
    loss: Loss,
    keys_delta: float,
    groups: int,
    keys: str | None,
) -> Plan:
    if keys is None:
        return Plan(mechanism, planned, loss, None, None)
    least = threshold(mechanism, planned[keys].scale, keys_delta, planned[keys].query.groups or groups)
    return Plan(mechanism, planned, together([loss, Loss.failing(keys_delta)]), least, keys)

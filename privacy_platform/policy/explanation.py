"""What a private aggregate asks, hides and promises: as a document and in words. Nothing of the data goes into it."""

import math

import polars as pl

from privacy_platform.anonymization.dp.plan import Plan, PlannedQuery
from privacy_platform.policy.figures import figures, shown
from privacy_platform.policy.model import AggregatePolicy, error_column
from privacy_platform.policy.privacy import PrivacyPolicy, PrivacyUnit
from privacy_platform.policy.private import PEOPLE

__all__ = ["GROUP_SIZES", "document", "in_words", "promised_errors"]

# Groups of one row a person, for which errors are stated: those of means depend on the group.
GROUP_SIZES = (100, 1_000, 10_000)


def document(policy: AggregatePolicy, plan: Plan) -> dict[str, object]:
    """The parameters, every query with its noise, and the promised errors; as JSON."""
    privacy = _privacy(policy)
    return {
        "unit": str(privacy.unit),
        "groups_per_unit": privacy.groups_per_unit,
        "rows_per_group": privacy.rows_per_group,
        "rows_per_unit": privacy.rows_per_unit,
        **plan.summary(),
        "promised_error_95": {
            figure: {str(size): error for size, error in errors.items()}
            for figure, errors in promised_errors(policy, plan).items()
        },
    }


def promised_errors(policy: AggregatePolicy, plan: Plan) -> dict[str, dict[int, float | None]]:
    """Figure → people of a group → the 95 % error of its noise.

    Of a group in which every person has one row, and in which values lie in the middle of their clamp: a mean's error
    falls with the rows it is made of, and rises the further it is from that middle. None where noise leaves nothing to
    say of so small a group.
    """
    answers = {column: _typical(planned) for planned in plan.queries.values() for column in planned.query.columns}
    unknown = {name: [None] * len(GROUP_SIZES) for name in policy.dimensions}
    found = figures(policy, plan, pl.DataFrame({**unknown, PEOPLE: GROUP_SIZES, **answers}))
    names = [figure for name, measure in policy.measures.items() for figure in measure.figures(name)]
    return {name: dict(zip(GROUP_SIZES, found[error_column(name)].to_list(), strict=True)) for name in names}


def in_words(policy: AggregatePolicy, plan: Plan) -> list[str]:
    """Sentences on what the release hides, of whom, and by what."""
    privacy = _privacy(policy)
    one = "everything of one user" if privacy.unit is PrivacyUnit.USER else "everything of one user on one day (UTC)"
    within = "" if privacy.unit is PrivacyUnit.USER else " on a day"
    in_all = f" and {privacy.rows_per_unit:,} in all" if privacy.rows_per_unit else ""
    unless = f", except with a probability of {plan.loss.delta:g}" if plan.loss.delta else ""
    most = math.exp(plan.loss.epsilon)
    sentences = [
        f"It hides {one}: with or without that, anything the table could show is as likely, up to the factor "
        f"e^{plan.loss.epsilon:.4g} = {most:.3g}{unless}.",
        f"A user counts in at most {_many(privacy.groups_per_unit, 'group')}{within}, with at most "
        f"{_many(privacy.rows_per_group, 'row')} in each{in_all}. What is beyond that is not counted, so figures of "
        "very active users come out low; the promised error does not cover this.",
        f"Noise: {plan.mechanism}, in whole numbers, drawn by OpenDP.",
    ]
    if plan.threshold is None:
        return [*sentences, "All keys are known beforehand, so groups without anybody are shown too."]
    return [
        *sentences,
        f"It shows {shown(plan, policy)}. What a single user alone is in is shown with a probability of at most "
        f"{plan.loss.rho_delta:g}.",
    ]


def _typical(planned: PlannedQuery) -> list[int]:
    """The answers of groups of each size: one row a person, at the middle of its clamp."""
    parts = len(planned.query.columns)
    counted = planned.query.step == 1
    return [size // parts if counted else 0 for size in GROUP_SIZES]


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def _privacy(policy: AggregatePolicy) -> PrivacyPolicy:
    assert policy.privacy is not None  # noqa: S101 - only for private aggregates
    return policy.privacy

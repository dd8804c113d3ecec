"""From a policy's privacy model and the counts of a table to what its records become."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from privacy_platform.anonymization.hierarchies import Dates, Hierarchy
from privacy_platform.anonymization.kanonymity.build import fixed_ladder, ladder
from privacy_platform.anonymization.kanonymity.counting import COUNT, merge, tuples_of, values_of
from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.lattice import global_recoding
from privacy_platform.anonymization.kanonymity.local import local_recoding
from privacy_platform.anonymization.kanonymity.recoder import Published, Recoder, recoder
from privacy_platform.anonymization.kanonymity.recoding import Recoding
from privacy_platform.anonymization.risk.choice import choose
from privacy_platform.anonymization.risk.distribution import recoding_utility
from privacy_platform.anonymization.risk.frame import FrameRelation
from privacy_platform.anonymization.risk.report import Options, RiskReport, assess
from privacy_platform.anonymization.techniques import Generalize
from privacy_platform.policy.compile import anonymized_table
from privacy_platform.policy.model import DatasetPolicy, PrivacyModel


@dataclass(frozen=True)
class Anonymization:
    """What the search found for one release.

    Attributes:
        recoder: applies it.
        recoding: `global`, `local`, or `fixed` when the policy leaves no level open.
        levels: quasi-identifier → its level; under local recoding → level → share of the records.
        loss: mean normalized certainty penalty, 0 to 1; suppressed cells count 1.
        column_losses: quasi-identifier → the same for it alone.
        records: records considered.
        suppressed: records left out.
        classes: equivalence classes published.
        risk: what can be learned about a person from the quasi-identifiers and sensitive columns as published.
    """

    recoder: Recoder
    recoding: str
    levels: Mapping[str, str | Mapping[str, float]]
    loss: float
    column_losses: Mapping[str, float]
    records: int
    suppressed: int
    classes: int
    risk: RiskReport


def searched(policy: DatasetPolicy) -> dict[str, tuple[Hierarchy, tuple[str, ...]]]:
    """Quasi-identifier → its hierarchy and the levels it may be published at, for those whose level a search picks."""
    found = {}
    outputs = policy.outputs()
    names = policy.privacy_model.quasi_identifiers if policy.privacy_model else ()
    for name, output in outputs.items():
        field = policy.fields[name]
        technique = field.technique
        if output in names and isinstance(technique, Generalize) and technique.level is None:
            found[output] = technique.rule(), technique.allowed(sealed=field.sensitivity.sealed)
    return found


def anonymize(policy: DatasetPolicy, counts: pl.DataFrame, standing: Mapping[str, object] | None) -> Anonymization:
    """Find what the records of a table become.

    Args:
        policy: a dataset with a privacy model.
        counts: the distinct combinations of quasi-identifiers, at their finest level, and sensitive columns.
        standing: the levels of the release before, which a global search begins with.

    Raises:
        UnreachableError: the policy's demands cannot be met.
    """
    model = policy.privacy_model
    assert model is not None  # noqa: S101 - only called with a model
    names = model.quasi_identifiers
    open_columns = searched(policy)
    values = [values_of(counts, name) for name in names]
    ladders = [_ladder(name, series, open_columns) for name, series in zip(names, values, strict=True)]
    tuples = tuples_of(counts, names, tuple(model.sensitive))
    required = model.requirements()
    if model.recoding == "local":
        recoding = local_recoding(tuples, ladders, required)
    else:
        recoding = global_recoding(tuples, ladders, required, incumbent=_levels_of(standing, ladders))
    types = anonymized_table(policy).schema()
    published = {name: _published(rule, types[name]) for name, (rule, _) in open_columns.items()}
    applied = recoder(recoding, tuples, ladders, values, published)
    utilities = recoding_utility(tuples, ladders, recoding)
    return Anonymization(
        recoder=applied,
        recoding=model.recoding if open_columns else "fixed",
        levels=_named_levels(recoding, ladders, tuples.counts),
        loss=recoding.loss,
        column_losses=dict(zip(names, recoding.losses, strict=True)),
        records=tuples.records,
        suppressed=recoding.suppressed_records,
        classes=recoding.classes,
        risk=_risk(policy, model, applied.apply(counts), Options(utilities=utilities)),
    )


def _risk(policy: DatasetPolicy, model: PrivacyModel, published: pl.DataFrame, options: Options) -> RiskReport:
    """The risk report of the published tuples, from their counts."""
    columns = (*model.quasi_identifiers, *model.sensitive)
    relation = FrameRelation(merge([published], columns), counts=COUNT)
    choice = choose(relation, quasi_identifiers=model.quasi_identifiers, sensitive=tuple(model.sensitive))
    return assess(relation, choice, table=anonymized_table(policy).qualified, k=model.k, options=options)


def _ladder(name: str, values: pl.Series, open_columns: Mapping[str, tuple[Hierarchy, tuple[str, ...]]]) -> Ladder:
    if name not in open_columns:
        return fixed_ladder(name, values)
    rule, levels = open_columns[name]
    return ladder(name, rule, values, finest=levels[0], coarsest=levels[-1])


def _published(rule: Hierarchy, kind: pl.DataType) -> Published:
    if not (isinstance(rule, Dates) and kind.is_temporal()):
        return lambda labels, level: labels
    return lambda labels, level: rule.first_days(labels, level).cast(kind)


def _levels_of(standing: Mapping[str, object] | None, ladders: list[Ladder]) -> tuple[int, ...] | None:
    """The indexes of the levels of the release before, if all of them may still be chosen."""
    if standing is None or any(standing.get(ladder.name) not in ladder.levels for ladder in ladders):
        return None
    return tuple(ladder.levels.index(str(standing[ladder.name])) for ladder in ladders)


def _named_levels(
    recoding: Recoding, ladders: list[Ladder], counts: np.ndarray
) -> dict[str, str | Mapping[str, float]]:
    if recoding.levels.ndim == 1:
        return {ladder.name: ladder.levels[int(at)] for ladder, at in zip(ladders, recoding.levels, strict=True)}
    kept = ~recoding.suppressed
    shares: dict[str, str | Mapping[str, float]] = {}
    for column, rungs in enumerate(ladders):
        weights = np.bincount(recoding.levels[kept, column], weights=counts[kept], minlength=len(rungs.levels)) / max(
            1, counts[kept].sum()
        )
        shares[rungs.name] = dict(zip(rungs.levels, (round(float(w), 6) for w in weights), strict=True))
    return shares

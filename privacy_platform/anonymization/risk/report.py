"""The risk report: every measure of one table, as one value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs

from privacy_platform.anonymization.kanonymity.evaluate import MeasuredSensitive, measure
from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples
from privacy_platform.anonymization.risk.choice import ColumnChoice, UnknownColumnError
from privacy_platform.anonymization.risk.distribution import ColumnUtility, column_utility
from privacy_platform.anonymization.risk.labels import beneath
from privacy_platform.anonymization.risk.reidentification import (
    Attack,
    ClassSizes,
    class_sizes,
    journalist,
    marketer,
    prosecutor,
)
from privacy_platform.anonymization.risk.relation import Relation
from privacy_platform.anonymization.risk.singling import (
    MAX_COLUMNS,
    MAX_SIZE,
    THRESHOLD,
    Combination,
    Singling,
    single_out,
)

__all__ = ["DEFAULT_K", "ColumnReport", "Options", "RiskReport", "SensitiveReport", "assess", "sensitive_report"]

DEFAULT_K = 5
MAX_TUPLES = 4_000_000
"""Combinations of all columns that are held in memory for the search of identifying ones, some 100 bytes each."""
_CLASSES = pl.exclude("records")


@dataclass(frozen=True, slots=True)
class SensitiveReport:
    """What the classes show of a sensitive attribute, each figure that of the worst class.

    Attributes:
        name: the column.
        distinct_l: fewest values (l-diversity, Machanavajjhala et al. 2007).
        entropy_l: least exp(entropy).
        recursive_l: the l of recursive (c,l)-diversity, and
        recursive_c: what c must be above for it; None if no c is enough.
        t_equal: largest distance from the whole table, total variation (t-closeness, Li et al. 2007).
        t_ordered: the same as ordered distance; None for values without an order.
    """

    name: str
    distinct_l: int
    entropy_l: float
    recursive_l: int
    recursive_c: float | None
    t_equal: float
    t_ordered: float | None


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """What a column is taken for and what is left of it.

    Attributes:
        name: the column.
        taken_for: `quasi_identifier`, `sensitive`, `pseudonym` or `other`.
        loss: its NCP, 0 to 1; None when neither the release nor an original tells it.
        total_variation: distance from the original's distribution, 0 to 1; None without a comparable original.
        earth_mover: the same as ordered distance; None for values without an order too.
    """

    name: str
    taken_for: str
    loss: float | None = None
    total_variation: float | None = None
    earth_mover: float | None = None


@dataclass(frozen=True, slots=True)
class RiskReport:
    """What can still be learned about a person from a table. Risks and shares are 0 to 1; counts are of records.

    Attributes:
        table: what was looked at.
        role: who was asked for, or None for a file.
        k_demanded: the k that classes are judged by; a record is at risk when its class is smaller.
        records: records in classes, so without the suppressed ones.
        suppressed: records that stand for suppressed ones; they are no class.
        columns: every column that can be read.
        sizes: equivalence classes by size.
        prosecutor: risk of a record whose person is known to be in the table.
        journalist: risk of a record whose person is looked for in the population.
        marketer: expected share of records re-identified.
        population: people in the population, or None where the table is taken for all of it.
        sensitive: l and t for each sensitive attribute.
        combinations: the smallest sets of columns that single out more than `identifying_share` of the records.
        combinations_complete_to: every set of at most that many columns was looked at.
        all_columns_share: share of the records that all those columns together single out; None if not looked at.
        identifying_share: see `combinations`.
        notes: what was assumed or left out.
    """

    table: str
    role: str | None
    k_demanded: int
    records: int
    suppressed: int
    columns: tuple[ColumnReport, ...]
    sizes: ClassSizes
    prosecutor: Attack
    journalist: Attack
    marketer: float
    population: int | None
    sensitive: tuple[SensitiveReport, ...]
    combinations: tuple[Combination, ...]
    combinations_complete_to: int
    all_columns_share: float | None
    identifying_share: float
    notes: tuple[str, ...]

    @property
    def k(self) -> int:
        """Records of the smallest class."""
        return self.sizes.smallest

    @property
    def unique(self) -> int:
        """Records that are a class of their own."""
        return self.sizes.records_between(1, 1)

    @property
    def near_unique(self) -> int:
        """Records in classes of two to four."""
        return self.sizes.records_between(2, 4)

    @property
    def below_k(self) -> int:
        """Records in classes smaller than demanded."""
        return self.sizes.records_between(1, self.k_demanded - 1)

    def of_kind(self, taken_for: str) -> tuple[str, ...]:
        """The columns that are taken for that."""
        return tuple(column.name for column in self.columns if column.taken_for == taken_for)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        document = asdict(self)
        sizes = document.pop("sizes")
        return {
            **document,
            "k": self.k,
            "classes": self.sizes.classes,
            "largest_class": self.sizes.largest,
            "unique": self.unique,
            "near_unique": self.near_unique,
            "below_k": self.below_k,
            "quasi_identifiers": self.of_kind("quasi_identifier"),
            "pseudonyms": self.of_kind("pseudonym"),
            "class_sizes": [{"size": size, "classes": n} for size, n in sizes["histogram"]],
        }


@dataclass(frozen=True, slots=True)
class Options:
    """What can be known beside the table, and what is wanted.

    Attributes:
        suppressed: the text that stands in all quasi-identifiers of a suppressed record; None: there are none.
        population: who could be in the table; its columns are named as the quasi-identifiers and written alike.
        original: the table before anonymization, to compare columns of the same name with.
        utilities: column → what the release itself noted of it; goes before what is estimated from `original`.
        identifying_share: share of records from which on a set of columns is reported as identifying.
        with_combinations: whether to look for such sets, by far the longest part.
    """

    suppressed: str | None = None
    population: Relation | None = None
    original: Relation | None = None
    utilities: Mapping[str, ColumnUtility] = field(default_factory=dict)
    identifying_share: float = THRESHOLD
    with_combinations: bool = True


def assess(
    relation: Relation,
    choice: ColumnChoice,
    *,
    table: str,
    role: str | None = None,
    k: int = DEFAULT_K,
    options: Options | None = None,
) -> RiskReport:
    """Measure a table.

    Args:
        relation: the table as the role sees it.
        choice: what its columns are taken for.
        table: its name, for the report.
        role: who is asked for, for the report.
        k: records in smaller classes are at risk.
        options: the rest.

    Raises:
        UnknownColumnError: the population lacks a quasi-identifier.
    """
    options = options or Options()
    notes = list(choice.notes)
    quasi = choice.quasi_identifiers
    everything = relation.records()
    if options.suppressed is not None and quasi:
        relation = relation.without(quasi, options.suppressed)
    records = relation.records()
    if not quasi:
        notes.append("No quasi-identifier can be read: all records are one class.")
    classes = _grouped(relation, quasi)
    if options.suppressed is None and (starred := _all_stars(classes)):
        notes.append(
            f"{starred} records show * in every quasi-identifier. If they stand for suppressed records, say "
            "--suppressed '*': such records are no class."
        )
    counts = classes["records"].to_numpy()
    sizes = class_sizes(counts)
    population = options.population
    people = counts if population is None else _population(classes, population, quasi)
    share = options.identifying_share
    singling = _combinations(relation, choice, share, notes) if options.with_combinations else None
    kinds = {column.name: column.kind for column in relation.columns}
    return RiskReport(
        table=table,
        role=role,
        k_demanded=k,
        records=records,
        suppressed=everything - records,
        columns=_columns(relation, choice, options.original, options.utilities, notes),
        sizes=sizes,
        prosecutor=prosecutor(sizes, 1 / k),
        journalist=journalist(counts, people, 1 / k),
        marketer=marketer(counts, people),
        population=population.records() if population else None,
        sensitive=tuple(
            sensitive_report(name, relation.cells(quasi, name), ordered=kinds[name].ordered)
            for name in (choice.sensitive if records else ())
        ),
        combinations=singling.combinations if singling else (),
        combinations_complete_to=singling.complete_to if singling else 0,
        all_columns_share=singling.all_columns if singling else None,
        identifying_share=share,
        notes=tuple(notes),
    )


def sensitive_report(name: str, cells: pl.DataFrame, *, ordered: bool) -> SensitiveReport:
    """L and t of one attribute.

    Args:
        name: the column.
        cells: `class`, `value` and `records`, as `Relation.cells` gives them; at least one.
        ordered: whether values have an order.
    """
    # Null is a value too, the last one.
    number = pl.col("value").rank("dense").cast(pl.Int64) - 1
    coded = cells.select(
        group=pl.col("class").rank("dense").cast(pl.Int64) - 1,
        value=number.fill_null(pl.col("value").drop_nulls().n_unique()),
        records="records",
    )
    group, value, count = (coded[column].to_numpy() for column in coded.columns)
    n = int(group.max()) + 1
    sensitive = Sensitive(int(value.max()) + 1, group, value.astype(np.int32), count)
    totals = np.bincount(group, count, n).astype(np.int64)
    tuples = Tuples(np.arange(n, dtype=np.int32)[:, None], totals, {name: sensitive})
    found: MeasuredSensitive = measure(np.arange(n), n, tuples).sensitive[name]
    return SensitiveReport(
        name=name,
        distinct_l=found.distinct_l,
        entropy_l=found.entropy_l,
        recursive_l=found.recursive_l,
        recursive_c=found.recursive_c if np.isfinite(found.recursive_c) else None,
        t_equal=found.t_equal,
        t_ordered=found.t_ordered if ordered else None,
    )


def _grouped(relation: Relation, names: tuple[str, ...]) -> pl.DataFrame:
    if not names:
        records = relation.records()
        return pl.DataFrame({"records": [records] if records else []}, schema={"records": pl.Int64})
    found = relation.grouped(names)
    assert found is not None  # noqa: S101 - there is no limit
    return found


def _all_stars(classes: pl.DataFrame) -> int:
    if classes.width == 1:
        return 0
    starred = pl.all_horizontal(_CLASSES.cast(pl.String).eq_missing("*"))
    return int(classes.filter(starred)["records"].sum())


def _population(classes: pl.DataFrame, population: Relation, quasi: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """People of each class in the population, in the order of `classes`."""
    if missing := set(quasi) - {column.name for column in population.columns}:
        raise UnknownColumnError(f"the population has no column `{min(missing)}`, a quasi-identifier of the table")
    if not quasi:
        return np.array([population.records()], np.int64)
    texts = _CLASSES.cast(pl.String)
    people = _grouped(population, quasi).with_columns(texts)
    keys = [column for column in classes.columns if column != "records"]
    joined = classes.with_columns(texts).join(
        people, on=keys, how="left", nulls_equal=True, suffix=" of population", maintain_order="left"
    )
    return joined["records of population"].fill_null(0).to_numpy()


def _combinations(relation: Relation, choice: ColumnChoice, share: float, notes: list[str]) -> Singling | None:
    names = (*choice.quasi_identifiers, *choice.sensitive, *choice.others)
    if len(names) > MAX_COLUMNS:
        notes.append(f"Identifying combinations were looked for among the first {MAX_COLUMNS} of {len(names)} columns.")
        names = names[:MAX_COLUMNS]
    frame = relation.grouped(names, limit=MAX_TUPLES) if names else None
    if frame is None:
        if names:
            notes.append(
                f"Identifying combinations were not looked for: there are more than {MAX_TUPLES:,} combinations of "
                "values. Name fewer columns, or look at a sample."
            )
        return None
    # Texts become numbers by a dictionary first: sorting them would take longer than the search.
    numbers = frame.with_columns(cs.string().cast(pl.Categorical).to_physical())
    codes = numbers.select(_CLASSES.rank("dense").cast(pl.Int32).fill_null(0)).to_numpy()
    found = single_out(names, codes, frame["records"].to_numpy(), threshold=share)
    if found.complete_to < min(MAX_SIZE, len(names)):
        notes.append(
            f"Identifying combinations of more than {found.complete_to} columns were not looked for: they are too many."
        )
    return found


def _columns(
    relation: Relation,
    choice: ColumnChoice,
    original: Relation | None,
    utilities: Mapping[str, ColumnUtility],
    notes: list[str],
) -> tuple[ColumnReport, ...]:
    roles = {
        **dict.fromkeys(choice.quasi_identifiers, "quasi_identifier"),
        **dict.fromkeys(choice.sensitive, "sensitive"),
        **dict.fromkeys(choice.pseudonyms, "pseudonym"),
    }
    there = {column.name for column in original.columns} if original else set()
    reports = []
    incomparable = []
    for column in relation.columns:
        name = column.name
        taken_for = roles.get(name, "other")
        utility = utilities.get(name)
        if utility is None and original is not None and name in there and taken_for != "pseudonym":
            utility = _utility(relation, original, name)
            if utility is None:
                incomparable.append(name)
        figures = (utility.loss, utility.total_variation, utility.earth_mover) if utility else ()
        reports.append(ColumnReport(name, taken_for, *figures))
    if incomparable:
        notes.append(f"Labels that do not tell which original values they stand for: {', '.join(incomparable)}.")
    return tuple(reports)


def _utility(relation: Relation, original: Relation, name: str) -> ColumnUtility | None:
    """The column compared with the original; None when most records' labels tell nothing of their values."""
    before, after = _grouped(original, (name,)).sort("c0", nulls_last=True), _grouped(relation, (name,)).sort("c0")
    known = beneath(before["c0"], after["c0"])
    counts = after["records"].to_numpy()
    if 2 * sum(int(counts[label]) for label in known) < counts.sum():
        return None
    kind = next(column.kind for column in original.columns if column.name == name)
    return column_utility(before["records"].to_numpy(), counts, known, ordered=kind.ordered)

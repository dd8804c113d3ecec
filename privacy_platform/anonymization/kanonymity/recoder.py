"""Applying a recoding to batches of records, far from where it was found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.recoding import Recoding
from privacy_platform.anonymization.kanonymity.tuples import Tuples

__all__ = ["NOTHING", "Published", "Recoder", "recoder"]

Published = Callable[[pl.Series, str], pl.Series]
"""From labels and the name of their level to what is published for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Recoder:
    """What becomes of records that hold base values; picklable, and as small as the recoding.

    Attributes:
        quasi_identifiers: the columns, in the order of the tuples.
        replaced: column → (base values, published values) for columns that change alike in all records.
        tuples: for a local recoding, a row a distinct tuple: base values, then the published ones as `__<column>`.
        suppressed: the base tuples whose records are left out.
    """

    quasi_identifiers: tuple[str, ...]
    replaced: Mapping[str, tuple[pl.Series, pl.Series]]
    tuples: pl.DataFrame | None
    suppressed: pl.DataFrame

    def apply(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The records to publish: same columns in the same order, suppressed ones left out."""
        keys = list(self.quasi_identifiers)
        if self.suppressed.height:
            frame = frame.join(self.suppressed, on=keys, how="anti", nulls_equal=True, maintain_order="left")
        if self.tuples is not None:
            # Inner: a tuple that nobody has counted is not published.
            joined = frame.join(self.tuples, on=keys, how="inner", nulls_equal=True, maintain_order="left")
            changed = [name for name in keys if f"__{name}" in self.tuples.columns]
            return joined.with_columns(pl.col(f"__{name}").alias(name) for name in changed).select(frame.columns)
        return frame.with_columns(
            # Strict: a value that nobody has counted is an error, and not a null.
            pl.col(name).replace_strict(old, new, return_dtype=new.dtype)
            for name, (old, new) in self.replaced.items()
        )


NOTHING = Recoder((), {}, None, pl.DataFrame())
"""For a table without records."""


def recoder(
    recoding: Recoding,
    tuples: Tuples,
    ladders: Sequence[Ladder],
    values: Sequence[pl.Series],
    published: Mapping[str, Published],
) -> Recoder:
    """The recoder of a recoding.

    Args:
        recoding: what was found.
        tuples: what it was found on.
        ladders: of each quasi-identifier.
        values: the base values that the tuples' codes stand for, of each quasi-identifier.
        published: column → what its labels at a level are published as, for each column that is to be recoded.
    """
    names = tuple(ladder.name for ladder in ladders)
    base = pl.DataFrame([series.gather(tuples.codes[:, at]).alias(names[at]) for at, series in enumerate(values)])
    suppressed = base.filter(pl.Series(recoding.suppressed))
    changing = [(at, ladders[at], published[name]) for at, name in enumerate(names) if name in published]
    if recoding.levels.ndim == 2:
        becoming = {
            f"__{ladder.name}": _labels(ladder, shown).gather(
                _places(ladder, recoding.levels[:, at].astype(np.int64), tuples.codes[:, at])
            )
            for at, ladder, shown in changing
        }
        return Recoder(names, {}, base.with_columns(**becoming), suppressed)
    replaced = {}
    for at, ladder, shown in changing:
        codes = np.arange(len(values[at]))
        levels = np.full(len(codes), int(recoding.levels[at]))
        replaced[ladder.name] = (values[at], _labels(ladder, shown).gather(_places(ladder, levels, codes)))
    return Recoder(names, replaced, None, suppressed)


def _labels(ladder: Ladder, published: Published) -> pl.Series:
    """What is published for the labels of all levels, one level after another."""
    levels = zip(ladder.labels, ladder.levels, strict=True)
    return pl.concat([published(pl.Series(labels, dtype=pl.String), level) for labels, level in levels])


def _places(
    ladder: Ladder, levels: npt.NDArray[np.int64], codes: npt.NDArray[np.int64] | npt.NDArray[np.int32]
) -> pl.Series:
    """Where in `_labels` the label of each code at its level stands."""
    starts = np.cumsum([0, *(len(labels) for labels in ladder.labels)])
    at_level = np.stack(ladder.codes)
    return pl.Series(starts[levels] + at_level[levels, codes], dtype=pl.UInt32)

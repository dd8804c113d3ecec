"""From records to the tuples that the search works on, by counting: in batches, in parts, and all together."""

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples

__all__ = ["COUNT", "combine", "count", "merge", "tuples_of", "values_of"]

COUNT = "__count"
"""The column that holds how many records share a combination."""


def count(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The distinct combinations of the columns, with how many records share each; null is a value like others."""
    return frame.group_by(columns).agg(pl.len().cast(pl.Int64).alias(COUNT))


def combine(counts: Iterable[pl.DataFrame], columns: Sequence[str]) -> pl.DataFrame:
    """The counts of the parts as the counts of the whole, in no order."""
    return pl.concat(list(counts)).group_by(columns).agg(pl.col(COUNT).sum())


def merge(counts: Iterable[pl.DataFrame], columns: Sequence[str]) -> pl.DataFrame:
    """The counts of the parts as the counts of the whole, in the order of the combinations."""
    return combine(counts, columns).sort(columns, nulls_last=True)


def values_of(counts: pl.DataFrame, column: str) -> pl.Series:
    """The distinct values of a column in their order, null last: what its codes stand for."""
    return counts[column].unique().sort(nulls_last=True)


def tuples_of(counts: pl.DataFrame, quasi_identifiers: Sequence[str], sensitive: Sequence[str]) -> Tuples:
    """The merged counts of quasi-identifiers and sensitive attributes as tuples; codes are places in `values_of`."""
    coded = counts.select(
        *(_code(counts, name).cast(pl.Int32).alias(name) for name in (*quasi_identifiers, *sensitive)), COUNT
    )
    tuples = coded.group_by(quasi_identifiers, maintain_order=True).agg(pl.col(COUNT).sum())
    index = tuples.select(*quasi_identifiers).with_row_index("__tuple")
    placed = coded.join(index, on=list(quasi_identifiers), maintain_order="left")
    return Tuples(
        codes=np.ascontiguousarray(tuples.select(quasi_identifiers).to_numpy().astype(np.int32)),
        counts=tuples[COUNT].to_numpy(),
        sensitive={name: _sensitive(placed, name) for name in sensitive},
    )


def _code(counts: pl.DataFrame, name: str) -> pl.Series:
    values = values_of(counts, name)
    codes = pl.DataFrame({name: values}).with_row_index("__code")
    return counts.select(name).join(codes, on=name, how="left", nulls_equal=True, maintain_order="left")["__code"]


def _sensitive(placed: pl.DataFrame, name: str) -> Sensitive:
    cells = placed.group_by("__tuple", name, maintain_order=True).agg(pl.col(COUNT).sum())
    return Sensitive(
        values=int(placed[name].max()) + 1 if placed.height else 0,  # type: ignore[arg-type]
        tuple_index=cells["__tuple"].to_numpy().astype(np.int64),
        value=cells[name].to_numpy().astype(np.int32),
        count=cells[COUNT].to_numpy(),
    )

"""From records to tuples and back: counting in parts, and applying what was found."""

import pickle

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from privacy_platform.anonymization.hierarchies import Dates, Values
from privacy_platform.anonymization.kanonymity.build import fixed_ladder, ladder
from privacy_platform.anonymization.kanonymity.counting import count, merge, tuples_of, values_of
from privacy_platform.anonymization.kanonymity.recoder import NOTHING, Published, Recoder, recoder
from privacy_platform.anonymization.kanonymity.recoding import Recoding

QIS = ("city", "joined")
DATES = Dates(periods=("month", "year"))
records = st.lists(
    st.tuples(
        st.sampled_from(["Ulm", "Rom", None]),
        st.sampled_from(["2024-01", "2024-02", "2025-01", None]),
        st.sampled_from(["flu", "cold", None]),
    ),
    min_size=1,
    max_size=60,
)


def frame_of(rows: list[tuple[str | None, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys((*QIS, "illness"), pl.String()), orient="row")


@settings(max_examples=50, deadline=None)
@given(records, st.integers(1, 5))
def test_counting_in_parts_is_counting_at_once(rows: list[tuple[str | None, ...]], parts: int) -> None:
    frame, columns = frame_of(rows), (*QIS, "illness")
    counted = merge([count(frame[at::parts], columns) for at in range(parts) if frame[at::parts].height], columns)
    assert_frame_equal(counted, merge([count(frame, columns)], columns))
    tuples = tuples_of(counted, QIS, ("illness",))
    assert tuples.records == len(rows)
    values = [values_of(counted, name) for name in QIS]
    base = {tuple(v[int(c)] for v, c in zip(values, row, strict=True)) for row in tuples.codes}
    assert base == {row[:2] for row in rows}
    cells = tuples.sensitive["illness"]
    assert int(cells.count.sum()) == len(rows)
    assert (np.bincount(cells.tuple_index, cells.count, len(tuples.counts)) == tuples.counts).all()


def world(frame: pl.DataFrame, levels: np.ndarray, suppressed: list[tuple[str | None, str | None]]) -> Recoder:
    counted = merge([count(frame, QIS)], QIS)
    tuples = tuples_of(counted, QIS, ())
    values = [values_of(counted, name) for name in QIS]
    ladders = [ladder("city", Values(), values[0], finest="value"), ladder("joined", DATES, values[1], finest="month")]
    gone = [tuple(v[int(c)] for v, c in zip(values, row, strict=True)) in suppressed for row in tuples.codes]
    found = Recoding(levels, np.array(gone), 0.0, (0.0, 0.0), sum(gone), 1, 1)

    def typed(labels: pl.Series, level: str) -> pl.Series:
        return DATES.first_days(labels, level)

    def text(labels: pl.Series, level: str) -> pl.Series:
        return labels

    published: dict[str, Published] = {"city": text, "joined": typed if levels.ndim == 1 else text}
    return pickle.loads(pickle.dumps(recoder(found, tuples, ladders, values, published)))


PEOPLE = frame_of(
    [("Ulm", "2024-01", "flu"), ("Rom", "2024-02", "flu"), (None, "2025-01", None), ("Ulm", None, "cold")]
)


def test_a_global_recoding_keeps_types_and_leaves_out_suppressed_records() -> None:
    made = world(PEOPLE, np.array([0, 1], np.int16), [("Rom", "2024-02")]).apply(PEOPLE)
    assert made["city"].to_list() == ["Ulm", None, "Ulm"]
    assert made["joined"].dtype == pl.Date
    assert made["joined"].cast(pl.String).to_list() == ["2024-01-01", "2025-01-01", None]
    assert made["illness"].to_list() == ["flu", None, "cold"]
    hidden = world(PEOPLE, np.array([1, 2], np.int16), []).apply(PEOPLE)
    assert hidden["city"].to_list() == ["*"] * 4
    assert hidden["joined"].null_count() == 4


def test_a_local_recoding_changes_each_tuple_by_itself() -> None:
    counted = merge([count(PEOPLE, QIS)], QIS)
    levels = np.zeros((counted.height, 2), np.int16)
    ulm = [at for at, row in enumerate(counted.select(QIS).rows()) if row == ("Ulm", "2024-01")]
    levels[ulm] = (1, 1)
    made = world(PEOPLE, levels, [(None, "2025-01")]).apply(PEOPLE)
    assert made.select(QIS).rows() == [("*", "2024"), ("Rom", "2024-02"), ("Ulm", None)]


def test_what_nobody_counted_is_never_published() -> None:
    stranger = frame_of([("Bonn", "2024-01", "flu")])
    with pytest.raises(pl.exceptions.InvalidOperationError):
        world(PEOPLE, np.array([0, 0], np.int16), []).apply(stranger)
    assert world(PEOPLE, np.zeros((4, 2), np.int16), []).apply(stranger).height == 0


def test_columns_of_a_fixed_technique_stay() -> None:
    assert NOTHING.apply(PEOPLE).equals(PEOPLE)
    values = values_of(merge([count(PEOPLE, QIS)], QIS), "city")
    assert fixed_ladder("city", values).losses[0].sum() == 0

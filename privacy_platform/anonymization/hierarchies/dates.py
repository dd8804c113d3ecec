"""Truncation of dates and times: day, month, quarter, year."""

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from privacy_platform.anonymization.hierarchies.base import ANY, Hierarchy, anything

__all__ = ["Dates"]

Period = Literal["day", "month", "quarter", "year"]
_EVERY: dict[str, str] = {"day": "1d", "month": "1mo", "quarter": "1q", "year": "1y"}
_SHAPES: dict[str, str] = {
    "day": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "month": r"[0-9]{4}-[0-9]{2}",
    "quarter": r"[0-9]{4}-Q[1-4]",
    "year": r"[0-9]{4}",
}


class Dates(BaseModel, Hierarchy):
    """Periods of the calendar (UTC), some of day, month, quarter and year in this order, then `*`.

    A column that is at one level throughout keeps its type and shows the first day of each period, null at `*`. Where
    rows differ in level it is text that tells which: `2024-03-05`, `2024-03`, `2024-Q1`, `2024`. A leaf is a day
    of the observed span, which is from the first day of the first period to the last day of the last. `day` counts as
    the value itself: a date comes out as it was. Years outside of 0 to 9999 are `*`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    fits: ClassVar[frozenset[str]] = frozenset({"date", "timestamp"})
    keeps_type: ClassVar[bool] = True

    kind: Literal["date"] = "date"
    periods: tuple[Period, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        order = list(_EVERY)
        if any(order.index(fine) >= order.index(coarse) for fine, coarse in pairwise(self.periods)):
            raise ValueError(f"write the periods from fine to coarse: {', '.join(order)}")
        return self

    @property
    def title(self) -> str:
        """What messages call it."""
        return "a date hierarchy"

    @property
    def levels(self) -> tuple[str, ...]:
        """The periods, then `*`."""
        return (*self.periods, ANY)

    @property
    def leaf(self) -> str | None:
        """`day`, if it is among the levels."""
        return "day" if "day" in self.periods else None

    def generalize(self, column: pl.Expr, level: str) -> pl.Expr:
        """The period's text."""
        self.position(level)
        if level == ANY:
            return anything(column)
        year = column.dt.year()
        text = _TEXTS[level](column)
        return pl.when(year.is_between(0, 9999)).then(text).when(column.is_not_null()).then(pl.lit(ANY))

    def published(self, column: pl.Expr, level: str) -> pl.Expr:
        """The period's first instant, in the column's type; null at `*`."""
        self.position(level)
        if level == ANY:
            return pl.when(column.is_null() & column.is_not_null()).then(column)
        return pl.when(column.dt.year().is_between(0, 9999)).then(column.dt.truncate(_EVERY[level]))

    def first_days(self, labels: pl.Series, level: str) -> pl.Series:
        """The first day of each period from its text, as dates; null for `*` and null."""
        if level == ANY:
            return pl.repeat(None, len(labels), dtype=pl.Date, eager=True)
        known = pl.when(pl.col("v") != ANY).then(pl.col("v"))
        return labels.to_frame("v").select(_first_day(known, level)).to_series()

    def coarsen(self, labels: pl.Expr, finest: str, level: str) -> pl.Expr:
        """The text of the period that comprises a period."""
        self.between(finest, level)
        if level == ANY:
            return anything(labels)
        if finest == level:
            return labels
        return pl.when(labels == ANY).then(labels).otherwise(_TEXTS[level](_first_day(labels, finest)))

    def leaves(self, labels: pl.Series, finest: str, level: str) -> tuple[pl.Series, int]:
        """Days in the period, and in the observed span."""
        if finest == ANY:
            return pl.repeat(0, len(labels), dtype=pl.Float64, eager=True), 0
        known = pl.when(pl.col("v") != ANY).then(pl.col("v"))
        frame = labels.to_frame("v").select(_first_day(known, finest).alias("d"))
        span = pl.col("d").max().dt.offset_by(_EVERY[finest]) - pl.col("d").min()
        total = int(frame.select(span.dt.total_days()).item() or 0)
        if level == ANY:
            return pl.repeat(total, len(labels), dtype=pl.Float64, eager=True), total
        start = pl.col("d").dt.truncate(_EVERY[level])
        days = (start.dt.offset_by(_EVERY[level]) - start).dt.total_days()
        return frame.select(days.cast(pl.Float64)).to_series(), total

    def labels(self, level: str) -> frozenset[str] | None:
        """Not known beforehand, but for `*`."""
        self.position(level)
        return frozenset((ANY,)) if level == ANY else None

    def shape(self, level: str) -> str | None:
        """How the period is written."""
        return _SHAPES.get(level)


def _quarter(day: pl.Expr) -> pl.Expr:
    return day.dt.to_string("%Y") + pl.lit("-Q") + day.dt.quarter().cast(pl.String)


_TEXTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "day": lambda day: day.dt.to_string("%Y-%m-%d"),
    "month": lambda day: day.dt.to_string("%Y-%m"),
    "quarter": _quarter,
    "year": lambda day: day.dt.to_string("%Y"),
}


def _first_day(labels: pl.Expr, level: str) -> pl.Expr:
    """The first day of each period from its text; null for what is no period."""
    year = labels.str.head(4).cast(pl.Int32, strict=False)
    month: pl.Expr = pl.lit(1)
    day: pl.Expr = pl.lit(1)
    if level == "quarter":
        month = labels.str.tail(1).cast(pl.Int8, strict=False) * 3 - 2
    elif level in ("day", "month"):
        month = labels.str.slice(5, 2).cast(pl.Int8, strict=False)
    if level == "day":
        day = labels.str.slice(8, 2).cast(pl.Int8, strict=False)
    return pl.date(year, month, day)

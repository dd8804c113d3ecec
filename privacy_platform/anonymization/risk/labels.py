"""Which original values a published label stands for, told by how labels are written.

Understood are: the value itself; `*`; ranges `25-34`, `65+`, `<18`, `[25, 35[`; masked codes `921**`; and, for dates,
the beginning of the ISO form, `2024-03`. A label of another form stands for nothing here.
"""

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["beneath"]

_N = r"(-?\d+(?:\.\d+)?)"
_RANGE = re.compile(rf"^{_N}\s*[-–]\s*{_N}$")
_BRACKETS = re.compile(rf"^([\[\](])\s*{_N}\s*[,;]\s*{_N}\s*([\[\])])$")
_ABOVE = re.compile(rf"^(?:{_N}\s*\+|(?:>=|≥)\s*{_N})$")
_BELOW = re.compile(rf"^<\s*{_N}$")
_MASKED = re.compile(r"^([^*]+)(\*+)$")

Values = npt.NDArray[np.int64]


def beneath(original: pl.Series, labels: pl.Series) -> Mapping[int, Values]:
    """Position of each label → positions of the original values it stands for; labels that stand for none are missing.

    Args:
        original: distinct original values.
        labels: distinct published labels.
    """
    texts = original.cast(pl.String)
    numbers = original.cast(pl.Float64).to_numpy() if original.dtype.is_numeric() else None
    exact = {text: i for i, text in enumerate(texts.to_list())}
    found: dict[int, Values] = {}
    for position, label in enumerate(labels.cast(pl.String).to_list()):
        if label in exact:
            values = np.array([exact[label]], np.int64)
        elif label is None:
            continue
        elif label == "*":
            values = np.arange(len(original), dtype=np.int64)
        else:
            values = _by_form(label, texts, numbers, original.dtype.is_temporal())
        if len(values):
            found[position] = values
    return found


def _by_form(label: str, texts: pl.Series, numbers: npt.NDArray[np.float64] | None, temporal: bool) -> Values:
    if numbers is not None and (inside := _inside(label, numbers)) is not None:
        return np.flatnonzero(inside)
    if masked := _MASKED.match(label):
        prefix = masked.group(1)
        fits = texts.str.starts_with(prefix) & (texts.str.len_chars() == len(label))
    elif temporal:
        fits = texts.str.starts_with(label)
    else:
        return np.empty(0, np.int64)
    return np.flatnonzero(fits.fill_null(False).to_numpy())


def _inside(label: str, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_] | None:
    if match := _RANGE.match(label):
        return (numbers >= float(match[1])) & (numbers <= float(match[2]))
    if match := _ABOVE.match(label):
        return numbers >= float(match[1] or match[2])
    if match := _BELOW.match(label):
        return numbers < float(match[1])
    if match := _BRACKETS.match(label):
        low, high = float(match[2]), float(match[3])
        above = numbers >= low if match[1] == "[" else numbers > low
        return above & (numbers <= high if match[4] == "]" else numbers < high)
    return None

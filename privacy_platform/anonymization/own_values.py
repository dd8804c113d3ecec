"""A record's own values inside its own texts: the search that scrubbing and the leak finder share.

Contract: row by row, whatever the case, as a whole word, plain or URL-encoded, a telephone number in whatever
grouping and with or without its country code. A vectorised search finds the candidate rows; boundaries and encodings
are settled in Python for those alone.

Scrubbing takes more for a find than the leak finder does: an underscore ends a word (`ada_lovelace`), and letters with
combining marks count as composed ones. It may take too much; the finder must not, since it stops the run.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

import polars as pl

__all__ = ["MIN_CHARACTERS", "candidates", "number_candidates", "occurs", "scrub_own"]

MIN_CHARACTERS = 3
# A telephone number is told by its last nine digits: before them come a country code, a trunk zero, or nothing.
_NUMBER = re.compile(r"[+0-9 ()./-]+")
_EXTENSION = re.compile(r"(?i)\s*(?:x|ext|#).*$")
_DIGITS_LEAST, _DIGITS_TOLD = 7, 9
_BETWEEN = r"(?:[\s()./+-]|%20|%2[89bdf]){0,3}"
# Thai and Lao, Hangul, Kana, Han: scripts without blanks between words (the class is Python's and Rust's).
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def _lower(text: str) -> str:
    """Lower case of the same length, so that positions stay true."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _forms(value: str, text: str) -> set[str]:
    """How a value may be written in a text: as it is, and URL-encoded when the text holds encodings."""
    forms = {value}
    if "%" in text or "+" in text:
        forms |= {
            quote(value, safe=""),
            quote(unicodedata.normalize("NFD", value), safe=""),
            quote_plus(value),
            quote(value, safe="+'!*()"),
            value.replace("@", "%40"),
        }
    return {_lower(form) for form in forms}


def _bounded(text: str, start: int, end: int, joined: str) -> bool:
    """Whether a find is a whole word; the digits of a URL escape such as ``%20`` are no part of a word."""
    follows_word = start > 0 and (text[start - 1].isalnum() or text[start - 1] in joined)
    if follows_word and not re.fullmatch(r"%[0-9a-f]{2}", text[max(0, start - 3) : start]):
        return False
    return not (end < len(text) and (text[end].isalnum() or text[end] in joined))


def _number_of(value: str) -> str:
    """The digits that tell a telephone number, or nothing when the value is none."""
    bare = _EXTENSION.sub("", value)
    digits = re.sub("[^0-9]", "", bare) if _NUMBER.fullmatch(bare) else ""
    return digits[-_DIGITS_TOLD:] if len(digits) >= _DIGITS_LEAST else ""


def _number_spans(low: str, value: str) -> Iterator[tuple[int, int]]:
    digits = _number_of(value)
    if digits:
        written = _BETWEEN.join(digits)
        pattern = rf"(?:(?<![0-9])|(?<=%[0-9a-f]{{2}}))\+?(?:[0-9]{_BETWEEN}){{0,5}}{written}(?![0-9])"
        yield from (found.span() for found in re.finditer(pattern, low))


def _spans(text: str, value: str, *, joined: str = "_") -> Iterator[tuple[int, int]]:
    low = _lower(text)
    yield from _number_spans(low, value)
    for form in _forms(value, text):
        unspaced = bool(_UNSPACED.search(form))  # scripts written without blanks between words
        at = low.find(form)
        while at >= 0:
            end = at + len(form)
            if unspaced or _bounded(low, at, end, joined):
                yield at, end
            at = low.find(form, at + 1)


def occurs(text: str, value: str) -> bool:
    """Whether a value occurs in one text as a whole word."""
    return any(True for _ in _spans(text, value))


def _replace(text: str, value: str, placeholder: str) -> str:
    kept, at = [], 0
    for start, end in sorted(_spans(text, value, joined=""), key=lambda span: (span[0], -span[1])):
        if start >= at:
            kept += [text[at:start], placeholder]
            at = end
    return "".join([*kept, text[at:]]) if kept else text


def candidates(text: pl.Expr, values: Mapping[str, pl.Expr]) -> pl.Expr:
    """Expression: whether a text may hold one of its row's values; every true find is among them.

    Args:
        text: The texts.
        values: The row's own values, as text, by field.
    """
    low = text.str.to_lowercase()
    found = [
        low.str.contains(value.str.to_lowercase(), literal=True).fill_null(False) & long_enough(value)
        for value in values.values()
    ]
    encoded = text.str.contains("[%+]") & pl.any_horizontal([long_enough(value) for value in values.values()])
    return pl.any_horizontal(*found, encoded).fill_null(False)


def number_candidates(text: pl.Series, value: pl.Series) -> pl.Series:
    """For all rows, whether the text may hold the value as a telephone number grouped in another way."""
    none = pl.repeat(False, len(text), dtype=pl.Boolean, eager=True)
    rows = text.str.contains(rf"(?i)[0-9](?:{_BETWEEN}[0-9]){{{_DIGITS_LEAST - 1}}}").arg_true()
    if rows.is_empty():
        return none
    bare = value.gather(rows).str.replace(_EXTENSION.pattern, "")
    digits = bare.str.replace_all("[^0-9]", "")
    told = digits.str.len_bytes() >= _DIGITS_LEAST
    shown = text.gather(rows).str.replace_all(r"(?i)%20|%2[89bdf]|[^0-9]", "")
    pairs = pl.DataFrame([shown.alias("text"), digits.str.tail(_DIGITS_TOLD).alias("value"), told.alias("told")])
    found = pairs.select(pl.col("told") & pl.col("text").str.contains(pl.col("value"), literal=True)).to_series()
    return none.scatter(rows, found.fill_null(False))


def long_enough(value: pl.Expr) -> pl.Expr:
    """Expression: whether a value is long enough to be told from chance; false for null.

    That is `MIN_CHARACTERS`, one fewer in scripts without blanks.
    """
    length = value.str.len_chars()
    unspaced = value.str.contains(_UNSPACED.pattern)
    return ((length >= MIN_CHARACTERS) | ((length == MIN_CHARACTERS - 1) & unspaced)).fill_null(False)


def scrub_own(text: pl.Expr, values: Mapping[str, pl.Expr]) -> pl.Expr:
    """Expression: texts with their row's own values replaced by ``[FIELD]``, longer values first."""
    names = list(values)
    fields = [value.alias(f"own{index}") for index, value in enumerate(values.values())]

    def kernel(rows: pl.Series) -> pl.Series:
        frame = rows.struct.unnest().select(_composed(column) for column in rows.struct.unnest())
        own = {name: pl.col(f"own{index}") for index, name in enumerate(names)}
        texts = frame["text"]
        found = frame.select(candidates(pl.col("text"), own)).to_series()
        for index in range(len(names)):
            found |= number_candidates(texts, frame[f"own{index}"])
        hits = found.arg_true()
        if hits.is_empty():
            return texts
        return texts.clone().scatter(hits, [_scrub_row(row, names) for row in frame[hits].rows()])

    return pl.struct(text.alias("text"), *fields).map_batches(kernel, return_dtype=pl.String, is_elementwise=True)


def _composed(texts: pl.Series) -> pl.Series:
    """The texts with letters and their marks as one character each, which only other alphabets than ASCII have."""
    if texts.dtype != pl.String or texts.str.len_bytes().sum() == texts.str.len_chars().sum():
        return texts
    return texts.str.normalize("NFC")


def _scrub_row(row: tuple[str, ...], names: list[str]) -> str:
    text = row[0]
    own = [(value, name) for value, name in zip(row[1:], names, strict=True) if value and _counts(value)]
    for value, name in sorted(own, key=lambda pair: (-len(pair[0]), pair[1])):
        text = _replace(text, value, f"[{name.upper()}]")
    return text


def _counts(value: str) -> bool:
    """The scalar twin of :func:`long_enough`."""
    return len(value) >= MIN_CHARACTERS or (len(value) == MIN_CHARACTERS - 1 and bool(_UNSPACED.search(value)))

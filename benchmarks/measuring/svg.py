"""Bar charts as SVG, without a library: text that a diff can show and a page can scale."""

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["COLOURS", "grouped", "stacked"]

COLOURS = ("#3b6ea5", "#d9822b", "#5a9e6f", "#b04a5a", "#8067a8", "#8c8c8c", "#c2a83e", "#4fa3a5", "#a0643c",
           "#6b7a8f", "#c77da8", "#7fae3b")  # fmt: skip
"""Tell series apart, in order; they begin again when there are more."""
_WIDTH, _LABEL, _VALUE, _BAR, _GAP, _TOP = 860, 230, 90, 16, 10, 64
_INK, _FAINT = "#24292f", "#d0d7de"


def grouped(title: str, unit: str, rows: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> str:
    """Rows of bars side by side, one for each series; a missing value has no bar.

    Args:
        title: above the chart.
        unit: of the values, under the title.
        rows: the labels.
        series: name → a value for each row.
    """
    most = max((value for values in series.values() for value in values if value), default=1.0)
    scale = (_WIDTH - _LABEL - _VALUE) / most
    parts, y = [], _TOP
    for index, row in enumerate(rows):
        middle = y + len(series) * _BAR / 2
        parts.append(_text(_LABEL - 8, middle, row, anchor="end"))
        for number, values in enumerate(series.values()):
            value = values[index]
            if value is not None:
                parts.append(_bar(_LABEL, y, value * scale, COLOURS[number % len(COLOURS)], f"{row}: {_number(value)}"))
                parts.append(_text(_LABEL + value * scale + 5, y + _BAR / 2, _number(value), size=11))
            y += _BAR
        y += _GAP
    return _chart(title, unit, list(series), parts, y)


def stacked(title: str, unit: str, rows: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """One bar a row, made of the values of all series one after the other, and their sum; see `grouped`."""
    sums = [sum(values[index] for values in series.values()) for index in range(len(rows))]
    scale = (_WIDTH - _LABEL - _VALUE) / (max(sums, default=0.0) or 1.0)
    parts, y = [], _TOP
    for index, row in enumerate(rows):
        parts.append(_text(_LABEL - 8, y + _BAR * 0.75, row, anchor="end"))
        x = float(_LABEL)
        for number, (name, values) in enumerate(series.items()):
            width = values[index] * scale
            colour = COLOURS[number % len(COLOURS)]
            if width > 0:
                parts.append(_bar(x, y, width, colour, f"{row}, {name}: {_number(values[index])}", height=_BAR * 1.5))
            x += width
        parts.append(_text(x + 5, y + _BAR * 0.75, _number(sums[index]), size=11))
        y += int(_BAR * 1.5) + _GAP
    return _chart(title, unit, list(series), parts, y)


def _chart(title: str, unit: str, names: Sequence[str], parts: Sequence[str], bottom: float) -> str:
    legend, at, line = [], 16.0, bottom + 12
    for number, name in enumerate(names):
        width = 30 + 6.6 * len(name)
        if at + width > _WIDTH - 16:
            at, line = 16.0, line + 20
        legend.append(_bar(at, line - 6, 12, COLOURS[number % len(COLOURS)], name, height=12))
        legend.append(_text(at + 17, line, name, size=11))
        at += width
    height = line + 20
    body = "\n".join(
        [
            f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            _text(16, 22, title, size=15, weight="bold"),
            _text(16, 42, unit, size=11),
            f'<line x1="{_LABEL}" y1="{_TOP - 6}" x2="{_LABEL}" y2="{bottom - 4:.0f}" stroke="{_FAINT}"/>',
            *parts,
            *legend,
        ]
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title, quote=True)}" '
        f'font-family="Helvetica, Arial, sans-serif">\n{body}\n</svg>\n'
    )


def _bar(x: float, y: float, width: float, colour: str, hint: str, *, height: float = _BAR - 2) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}">'
        f"<title>{escape(hint)}</title></rect>"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{_INK}" '
        f'text-anchor="{anchor}" dominant-baseline="middle">{escape(text)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"

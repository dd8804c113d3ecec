"""The classes of a table, drawn: as SVG for Dagster's Markdown, as bars of text for a terminal."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from privacy_platform.anonymization.risk.report import RiskReport

__all__ = ["Bar", "bars", "class_size_plot", "plot_markdown"]

_EDGES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000, 1_000_000)
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 22, 110, 150, 44, 28


@dataclass(frozen=True, slots=True)
class Bar:
    """Records in classes of `low` to `high` records (None: no bound).

    Attributes:
        low: smallest class.
        high: largest class.
        records: records in such classes.
        classes: how many such classes there are.
        at_risk: whether such classes are smaller than the k demanded.
    """

    low: int
    high: int | None
    records: int
    classes: int
    at_risk: bool

    @property
    def label(self) -> str:
        """The sizes in words."""
        if self.high is None:
            return f"{self.low:,}+"
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}-{self.high:,}"


def bars(report: RiskReport) -> tuple[Bar, ...]:
    """Records by class size, in ranges that begin anew at the k demanded; empty ranges at both ends are left out."""
    edges = sorted({*_EDGES, report.k_demanded})
    ranges = list(zip(edges, [*(edge - 1 for edge in edges[1:]), None], strict=True))
    histogram = report.sizes.histogram
    found = []
    for low, high in ranges:
        inside = [(size, n) for size, n in histogram if low <= size and (high is None or size <= high)]
        records = sum(size * n for size, n in inside)
        found.append(Bar(low, high, records, sum(n for _, n in inside), low < report.k_demanded))
    filled = [i for i, bar in enumerate(found) if bar.records]
    return tuple(found[filled[0] : filled[-1] + 1]) if filled else ()


def class_size_plot(report: RiskReport) -> str:
    """A histogram as SVG: how many records are in classes of which size; red below the k demanded. Counts only."""
    shown = bars(report)
    height = _TOP + _ROW * max(1, len(shown)) + _BOTTOM
    title = f"Records by size of their class: k = {report.k}, {report.sizes.classes:,} classes"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        _text(12, 22, title, weight="bold"),
    ]
    if not shown:
        parts.append(_text(12, _TOP + 14, "no records"))
    parts += _drawn(shown)
    parts.append(_text(12, height - 10, f"Red: classes smaller than {report.k_demanded}.", colour="#5f6b7a"))
    return "".join([*parts, "</svg>"])


def _drawn(shown: Sequence[Bar]) -> list[str]:
    most = max((bar.records for bar in shown), default=0)
    total = sum(bar.records for bar in shown)
    parts = []
    for row, bar in enumerate(shown):
        top = _TOP + row * _ROW
        width = round((_WIDTH - _LEFT - _RIGHT) * bar.records / most, 1)
        colour = "#c5221f" if bar.at_risk else "#3b6fb6"
        parts.append(_text(_LEFT - 8, top + 15, bar.label, anchor="end"))
        parts.append(
            f'<rect x="{_LEFT}" y="{top + 4}" width="{max(width, 1 if bar.records else 0)}" height="{_ROW - 7}" '
            f'fill="{colour}"/>'
        )
        parts.append(_text(_LEFT + width + 6, top + 15, f"{bar.records:,} ({bar.records / total:.1%})"))
    return parts


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", colour: str = "#1f2933"
) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">{escape(words)}</text>'


def plot_markdown(report: RiskReport) -> str:
    """The plot as Markdown with the image inside, which Dagster's web page shows."""
    encoded = base64.b64encode(class_size_plot(report).encode()).decode()
    return f"![Records by size of their equivalence class](data:image/svg+xml;base64,{encoded})"

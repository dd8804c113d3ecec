"""The classes of a table, drawn: as SVG for Dagster's Markdown, as bars of text for a terminal."""

import base64
from dataclasses import dataclass

from privacy_platform.anonymization.risk.report import RiskReport

__all__ = ["Bar", "bars", "class_size_plot", "plot_markdown"]

_EDGES = (1, 2, 5, 10, 50, 100, 500, 1000)
_ROW = 20


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
    """A histogram as SVG: the share of records in classes of which size; red below the k demanded. No data.

    It is kept so small that Dagster's web page shows it in place (`plot_markdown`), and its colours suit a light and a
    dark page.
    """
    shown = bars(report)
    most = max((bar.records for bar in shown), default=1)
    lines = [f"M150 {_ROW * row + 12}h{max(1, 250 * bar.records // most)}" for row, bar in enumerate(shown)]
    words = [
        f'<text y="{_ROW * row + 16}">{bar.label}: {bar.records / report.records:.1%}</text>'
        for row, bar in enumerate(shown)
    ]
    red = "".join(line for line, bar in zip(lines, shown, strict=True) if bar.at_risk and bar.records)
    blue = "".join(line for line, bar in zip(lines, shown, strict=True) if not bar.at_risk and bar.records)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="{_ROW * len(shown) + 8}" font-size="13" '
        f'fill="gray" stroke-width="14"><path stroke="#c33" d="{red}"/><path stroke="#47b" d="{blue}"/>'
        f"{''.join(words)}</svg>"
    )


def plot_markdown(report: RiskReport) -> str:
    """The plot as Markdown with the image inside. Under 1,000 characters Dagster shows it in place."""
    encoded = base64.b64encode(class_size_plot(report).encode()).decode()
    return f"![class sizes](data:image/svg+xml;base64,{encoded})"

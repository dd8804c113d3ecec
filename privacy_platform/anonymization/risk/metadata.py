"""A risk report as the figures a materialization shows: plain values, no data, and Markdown for what is a table."""

from privacy_platform.anonymization.risk.report import RiskReport

__all__ = ["combinations_markdown", "risk_metadata", "sensitive_markdown"]


def risk_metadata(report: RiskReport) -> dict[str, int | float]:
    """Name → figure, to be attached to the materialization of the table."""
    figures: dict[str, int | float] = {
        "risk/k": report.k,
        "risk/classes": report.sizes.classes,
        "risk/records": report.records,
        "risk/unique records": report.unique,
        "risk/near-unique records": report.near_unique,
        "risk/records below k": report.below_k,
        "risk/prosecutor highest": report.prosecutor.highest,
        "risk/prosecutor average": report.prosecutor.average,
        "risk/journalist highest": report.journalist.highest,
        "risk/journalist average": report.journalist.average,
        "risk/marketer": report.marketer,
    }
    for attribute in report.sensitive:
        figures[f"risk/{attribute.name}: distinct l"] = attribute.distinct_l
        figures[f"risk/{attribute.name}: t"] = attribute.t_equal
    for column in report.columns:
        if column.loss is not None:
            figures[f"risk/{column.name}: NCP"] = column.loss
    return figures


def combinations_markdown(report: RiskReport, *, most: int = 10) -> str:
    """The most identifying combinations of columns as a Markdown table."""
    if not report.combinations:
        return (
            f"No set of columns that was looked at singles out more than {report.identifying_share:.0%} of the records."
        )
    rows = [f"| {', '.join(c.columns)} | {c.records:,} | {c.share:.1%} |" for c in report.combinations[:most]]
    return "\n".join(["| columns | records singled out | share |", "|---|---:|---:|", *rows])


def sensitive_markdown(report: RiskReport) -> str:
    """L and t of every sensitive attribute as a Markdown table."""
    rows = [
        f"| {s.name} | {s.distinct_l} | {s.entropy_l:.2f} | {s.t_equal:.3f} | "
        f"{'-' if s.t_ordered is None else f'{s.t_ordered:.3f}'} |"
        for s in report.sensitive
    ]
    head = ["| attribute | distinct l | entropy l | t (equal) | t (ordered) |", "|---|---:|---:|---:|---:|"]
    return "\n".join([*head, *rows])

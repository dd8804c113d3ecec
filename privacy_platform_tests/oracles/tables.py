"""Small tables made from a seed, by the standard library alone: the same in the oracle's environment and in ours."""

import random
from pathlib import Path

__all__ = ["ANSWERS", "SEEDS", "Table", "generated_table"]

ANSWERS = Path(__file__).with_name("pycanon.json")
"""What the oracle said of the tables."""
SEEDS = tuple(range(12))
Table = dict[str, list[str] | list[int]]


def generated_table(seed: int) -> Table:
    """One table: two to four quasi-identifiers `q0`, …, the sensitive `word` (text) and `number` (whole numbers).

    From a dozen large classes to hundreds with unique records. Values lean towards the first ones, and the sensitive
    ones depend on `q0`, so that classes differ from the table.
    """
    draw = random.Random(seed)
    width, values = 2 + seed // 5, 2 + seed % 4
    records = 200 + 45 * seed
    table: Table = {f"q{i}": [] for i in range(width)} | {"word": [], "number": []}
    for _ in range(records):
        row = [int(values * draw.random() ** 1.2) for _ in range(width)]
        for i, value in enumerate(row):
            table[f"q{i}"].append(f"v{value}")  # type: ignore[arg-type]
        table["word"].append("abcdefgh"[min(7, int(draw.expovariate(0.4)) + row[0] % 2)])  # type: ignore[arg-type]
        table["number"].append(round(draw.gauss(10 + row[0], 3)))  # type: ignore[arg-type]
    return table

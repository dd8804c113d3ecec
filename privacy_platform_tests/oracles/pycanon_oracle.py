"""What pycanon says of k, l, t and risk; run in an environment of its own, for it pins numpy and pandas.

    uv venv --python 3.11 /tmp/oracle && uv pip install --python /tmp/oracle/bin/python pycanon==1.3.6
    /tmp/oracle/bin/python -m privacy_platform_tests.oracles.pycanon_oracle          # writes pycanon.json anew
    /tmp/oracle/bin/python -m privacy_platform_tests.oracles.pycanon_oracle FILE.csv --sensitive COLUMN [--separator ;]

The first writes pycanon's answers for the generated tables, which the unit tests compare with ours. The second prints
its answers for a file, whose other columns are all quasi-identifiers.

Recursive (c,l)-diversity is given twice: `pycanon_c` as pycanon computes it, whose r1 is the *rarest* value and which
rounds c down and adds one, and `paper_c` by the definition of Machanavajjhala et al. (2007), counted here.
"""

import argparse
import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
from pycanon import anonymity
from pycanon.metrics import average_rir, max_rir

from privacy_platform_tests.oracles.tables import ANSWERS, SEEDS, generated_table


def answers(data: pd.DataFrame, sensitive: list[str]) -> dict[str, Any]:
    """Everything pycanon measures that our report has too."""
    quasi = [column for column in data.columns if column not in sensitive]
    return {
        "records": len(data),
        "k": int(anonymity.k_anonymity(data, quasi)),
        "average_risk_of_classes": float(average_rir(data, quasi)),
        "highest_risk": float(max_rir(data, quasi)),
        "sensitive": {name: _of(data, quasi, name) for name in sensitive},
    }


def _of(data: pd.DataFrame, quasi: list[str], name: str) -> dict[str, Any]:
    l_distinct = int(anonymity.l_diversity(data, quasi, [name]))
    c, _ = anonymity.recursive_c_l_diversity(data, quasi, [name])
    return {
        "distinct_l": l_distinct,
        "entropy_l": int(anonymity.entropy_l_diversity(data, quasi, [name])),
        "t": float(anonymity.t_closeness(data, quasi, [name])),
        "pycanon_c": None if math.isnan(c) else int(c),
        "paper_c": paper_c(data, quasi, name, l_distinct),
    }


def paper_c(data: pd.DataFrame, quasi: list[str], name: str, least: int) -> float:
    """The largest r1 / (r_l + r_(l+1) + …) of all classes."""
    classes: dict[tuple[Any, ...], Counter[Any]] = defaultdict(Counter)
    for *key, value in data[[*quasi, name]].itertuples(index=False):
        classes[tuple(key)][value] += 1
    counts = (sorted(counter.values(), reverse=True) for counter in classes.values())
    return max(one[0] / sum(one[least - 1 :]) for one in counts)


def main() -> None:
    """Write the answers for the generated tables, or print those for a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--sensitive", action="append", default=[])
    parser.add_argument("--separator", default=",")
    wanted = parser.parse_args()
    if wanted.file:
        print(json.dumps(answers(pd.read_csv(wanted.file, sep=wanted.separator), wanted.sensitive), indent=1))
        return
    found = {str(seed): answers(pd.DataFrame(generated_table(seed)), ["word", "number"]) for seed in SEEDS}
    ANSWERS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

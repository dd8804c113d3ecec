"""The word lists of the value path: names of people, places and countries, and closed vocabularies.

The names are made by `scripts/detection_words.py` from the locale data of Faker and phonenumbers; they are read once,
when the first column is looked at (143,000 words, a fifth of a second). The closed vocabularies are in
`data/vocabularies.yaml`.
"""

import gzip
from functools import lru_cache
from pathlib import Path

import yaml

from privacy_platform.detection.text import normal
from privacy_platform.detection.types import PiiType

__all__ = ["closed_vocabularies", "names_and_places", "vocabulary"]

_DATA = Path(__file__).resolve().parent / "data"


@lru_cache(maxsize=1)
def names_and_places() -> dict[str, frozenset[str]]:
    """Normal forms by list: ``first``, ``last``, ``city``, ``region``, ``country``."""
    lists: dict[str, list[str]] = {}
    with gzip.open(_DATA / "words.txt.gz", "rt", encoding="utf-8") as file:
        for line in file:
            kind, _, word = line.rstrip("\n").partition("\t")
            lists.setdefault(kind, []).append(word)
    return {kind: frozenset(words) for kind, words in lists.items()}


def _values(text: str) -> frozenset[str]:
    return frozenset(normal(word.replace("_", " ")) for word in text.split())


@lru_cache(maxsize=1)
def _vocabularies() -> tuple[dict[PiiType, frozenset[str]], dict[str, frozenset[str]]]:
    document = yaml.safe_load((_DATA / "vocabularies.yaml").read_text(encoding="utf-8"))
    closed = {PiiType(name): _values(text) for name, text in document.pop("closed").items()}
    return closed, {name: _values(text) for name, text in document.items()}


def closed_vocabularies() -> dict[PiiType, frozenset[str]]:
    """The values of types that have only a few, such as gender or religion."""
    return _vocabularies()[0]


def vocabulary(name: str) -> frozenset[str]:
    """A list of `data/vocabularies.yaml`."""
    return _vocabularies()[1][name]

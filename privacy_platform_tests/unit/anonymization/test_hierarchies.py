"""Hierarchies: what is refused, with file and line, and where files are found."""

from pathlib import Path

import polars as pl
import pytest

from privacy_platform.anonymization.hierarchies import HierarchyError, load, read
from privacy_platform.anonymization.hierarchies.tables import PACKAGED

GOOD = "fruit,family,kingdom\nApple,rose,plant\nPear,rose,plant\nLemon,rue,plant\n"


def write(folder: Path, content: str, name: str = "fruit.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_levels_and_labels(tmp_path):
    hierarchy = read(write(tmp_path, GOOD))
    assert hierarchy.levels == ("fruit", "family", "kingdom", "*")
    assert hierarchy.labels("family") == {"rose", "rue", "*"}
    assert hierarchy.labels("*") == {"*"}
    frame = pl.DataFrame({"v": ["apple ", "LEMON", "Potato", None]})
    assert frame.select(hierarchy.generalize(pl.col("v"), "family"))["v"].to_list() == [
        "rose",
        "rue",
        "*",
        None,
    ]


@pytest.mark.parametrize("separator", [";", ",", "\t"])
def test_arx_form(tmp_path, separator):
    rows = [("Zoë", "rose", "*"), ("Pear", "rose", "*"), ("?", "*", "*")]
    hierarchy = read(write(tmp_path, "\r\n".join(separator.join(row) for row in rows) + "\r\n"))
    assert hierarchy.levels == ("level_0", "level_1", "*")
    assert hierarchy.leaf == "level_0"
    frame = pl.DataFrame({"v": ["Zoë", "Zoe\u0308", " ZOË ", "pear", "?", "fig", None]})
    for level, labels in {
        "level_0": ["Zoë", "Zoë", "Zoë", "Pear", "?", "*", None],
        "level_1": ["rose", "rose", "rose", "rose", "*", "*", None],
        "*": ["*"] * 7,
    }.items():
        assert frame.select(hierarchy.generalize(pl.col("v"), level)).to_series().to_list() == labels
    assert read(write(tmp_path, "White;*\nBlack;*\n")).levels == ("level_0", "*")


def test_quoted_cells_may_hold_the_separator(tmp_path):
    assert read(write(tmp_path, 'place,country\n"Seoul, old",Korea\n')).rows == (("Seoul, old", "Korea"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1"),
        ("fruit\nApple\n", "line 1"),
        ("fruit,fruit\nApple,x\n", "line 1: level names"),
        ("fruit,\nApple,x\n", "line 1: level names"),
        ("fruit,family\n", "at least one line"),
        ("fruit,family\nApple,\n", "line 2: fill all 2"),
        ("fruit,family\nApple,x\nPear\n", "line 3: fill all 2"),
        ("fruit,family\nApple,x,y\n", "line 2: fill all 2"),
        ("fruit,family\nApple,x\n apple,x\n", "line 3: the leaf of line 2"),
        ("fruit,family,kingdom\nApple,rose,plant\nPear,rose,animal\n", "line 3: .*'family'.* in line 2"),
        ("Apple;rose;plant;*\nPear;rose;animal;*\n", "line 2: .*'level_1'.* in line 1"),
        ("Apple;rose;*\nPear;*\n", "line 2: fill all 2"),
        ("Apple;rose;*\napple;rose;*\n", "line 2: the leaf of line 1"),
        ("Apple;*;plant;*\n", "line 1: what is '\\*'"),
    ],
)
def test_refused_with_file_and_line(tmp_path, content, message):
    with pytest.raises(HierarchyError, match=f"fruit.csv.*{message}|{message}.*fruit.csv"):
        read(write(tmp_path, content))


def test_not_text(tmp_path):
    (tmp_path / "fruit.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(HierarchyError, match="UTF-8"):
        read(tmp_path / "fruit.csv")


def test_user_folder_comes_first_and_changes_are_seen(tmp_path):
    assert load("city", tmp_path).labels("region") >= {"West", "Midwest", "South", "Northeast"}
    write(tmp_path / "hierarchies", "city,region\nSan Diego,Pacific\n", "city.csv")
    assert load("city", tmp_path).labels("region") == {"Pacific", "*"}
    write(tmp_path / "hierarchies", "city,region\nSan Diego,Far West\n", "city.csv")
    assert load("city", tmp_path).labels("region") == {"Far West", "*"}


def test_environment_names_the_folder(tmp_path, monkeypatch):
    write(tmp_path, GOOD)
    monkeypatch.setenv("PRIVACY_PLATFORM_POLICIES", str(tmp_path))
    assert load("fruit").name == "fruit"


@pytest.mark.parametrize("name", ["", "../city", "a/b", ".hidden"])
def test_names_are_no_paths(tmp_path, name):
    with pytest.raises(HierarchyError, match="not the name"):
        load(name, tmp_path)


def test_packaged_files_are_valid():
    for path in PACKAGED.glob("*.csv"):
        assert read(path).rows


@pytest.mark.parametrize(
    ("name", "level", "values", "labels"),
    [
        ("country", "country", ["us", "USA", "Atlantis"], ["United States", "United States", "*"]),
        ("country", "subregion", ["DE", "jpn", "Kenya"], ["Western Europe", "Eastern Asia", "Eastern Africa"]),
        ("country", "continent", ["NA", "BR", "NZ"], ["Africa", "Americas", "Oceania"]),
        ("us_state", "state", ["ca", "California"], ["California", "California"]),
        ("us_state", "region", ["TX", "Ohio", "PR"], ["South", "Midwest", "Territories"]),
        ("age", "group", ["17", "34", "99"], ["0-17", "25-34", "65+"]),
        ("marital_status", "partnership", ["MARRIED", "widower"], ["partnered", "formerly partnered"]),
        ("education", "attainment", ["PhD", "high school"], ["high", "medium"]),
    ],
)
def test_packaged_files_know_common_spellings(name, level, values, labels):
    frame = pl.DataFrame({"v": values})
    assert frame.select(load(name).generalize(pl.col("v"), level)).to_series().to_list() == labels

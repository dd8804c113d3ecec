"""Hierarchies: what is refused, with file and line, and where files are found."""

from pathlib import Path

import polars as pl
import pytest

from privacy_platform.anonymization import hierarchies
from privacy_platform.anonymization.hierarchies import HierarchyError, load, read

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


def test_a_written_star_level_is_the_implied_one(tmp_path):
    assert read(write(tmp_path, "a,b,*\nx,y,*\n")).levels == ("a", "b", "*")


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
    for path in hierarchies._PACKAGED.glob("*.csv"):
        assert read(path).rows

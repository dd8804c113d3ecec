"""The report of a table in memory or in a file, and how it is shown."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from privacy_platform.anonymization.risk.choice import Declared, UnknownColumnError, choose
from privacy_platform.anonymization.risk.frame import FrameRelation, TableFileError, read_table
from privacy_platform.anonymization.risk.metadata import combinations_markdown, risk_metadata, sensitive_markdown
from privacy_platform.anonymization.risk.plot import bars, class_size_plot, plot_markdown
from privacy_platform.anonymization.risk.report import Options, RiskReport, assess, sensitive_report

PEOPLE = pl.DataFrame(
    {
        "id": [f"p{i}" for i in range(12)],
        "age": ["20-29"] * 6 + ["30-39"] * 5 + ["*"],
        "sex": ["f"] * 6 + ["m"] * 4 + ["f", "*"],
        "income": [1, 2, 3, 4, 5, 6, 1, 1, 1, 1, 2, 9],
    }
)


def report_of(frame: pl.DataFrame, options: Options | None = None, k: int = 5) -> RiskReport:
    relation = FrameRelation(frame)
    choice = choose(relation, quasi_identifiers=["age", "sex"], sensitive=["income"])
    return assess(relation, choice, table="people", k=k, options=options)


def test_figures() -> None:
    report = report_of(PEOPLE, Options(suppressed="*"))

    assert (report.records, report.suppressed, report.k, report.sizes.classes) == (11, 1, 1, 3)
    assert (report.unique, report.near_unique, report.below_k) == (1, 4, 5)
    assert report.prosecutor.average == report.marketer == 3 / 11
    [income] = report.sensitive
    assert (income.distinct_l, income.entropy_l) == (1, 1.0)
    assert report.of_kind("pseudonym") == ("id",)
    # The pseudonym singles everybody out by itself, which says nothing: it is not among the combinations.
    assert [(c.columns, c.records) for c in report.combinations] == [(("income",), 4), (("age", "sex"), 1)]


def test_suppressed_records_are_a_class_unless_said_and_then_a_note_tells() -> None:
    report = report_of(PEOPLE)

    assert (report.records, report.suppressed, report.unique) == (12, 0, 2)
    assert any("--suppressed" in note for note in report.notes)
    assert not any("--suppressed" in note for note in report_of(PEOPLE, Options(suppressed="*")).notes)


def test_a_row_with_one_star_is_not_suppressed() -> None:
    frame = PEOPLE.with_columns(sex=pl.lit("f"))

    assert report_of(frame, Options(suppressed="*")).suppressed == 0


def test_a_population_makes_the_journalist_weaker() -> None:
    everybody = FrameRelation(pl.concat([PEOPLE, PEOPLE, PEOPLE]))

    report = report_of(PEOPLE, Options(suppressed="*", population=everybody))

    assert report.population == 36
    assert report.prosecutor.highest == 1
    assert report.journalist.highest == pytest.approx(1 / 3)
    assert report.marketer == pytest.approx(1 / 11)


def test_a_population_without_the_columns_is_refused() -> None:
    with pytest.raises(UnknownColumnError, match="`sex`"):
        report_of(PEOPLE, Options(population=FrameRelation(PEOPLE.drop("sex"))))


def test_columns_are_compared_with_the_original() -> None:
    original = PEOPLE.with_columns(age=pl.Series([20] * 3 + [25] * 3 + [30] * 6), sex=pl.Series(["f"] * 6 + ["m"] * 6))

    report = report_of(PEOPLE, Options(suppressed="*", original=FrameRelation(original)))

    columns = {column.name: column for column in report.columns}
    assert columns["age"].loss == pytest.approx((6 * 0.5 + 5 * 0) / 11)
    assert columns["age"].total_variation == pytest.approx(6 / 11 - 6 / 12)
    assert columns["income"].loss == 0


def test_labels_that_cannot_be_understood_are_said_and_not_compared() -> None:
    original = PEOPLE.with_columns(sex=pl.lit("another word"))

    report = report_of(PEOPLE, Options(original=FrameRelation(original)))

    assert next(column for column in report.columns if column.name == "sex").total_variation is None
    assert any("sex" in note for note in report.notes)


def test_without_a_policy_everything_but_identifiers_is_assumed_and_said() -> None:
    choice = choose(FrameRelation(PEOPLE), sensitive=["income"])

    assert (choice.quasi_identifiers, choice.pseudonyms) == (("age", "sex"), ("id",))
    assert "id" in choice.notes[0]


def test_a_policy_says_what_columns_are_and_the_role_which_there_are() -> None:
    declared = Declared(
        ("age", "sex", "zip"), ("income",), ("id",), beyond_model=("sex", "zip"), one_record_a_person=False
    )

    choice = choose(FrameRelation(PEOPLE), declared=declared)

    assert (choice.quasi_identifiers, choice.sensitive, choice.pseudonyms) == (("age", "sex"), ("income",), ("id",))
    assert "does not cover sex," in choice.notes[0]
    assert "not of people" in choice.notes[1]


@pytest.mark.parametrize(
    "wrong", [{"quasi_identifiers": ["shoe"]}, {"sensitive": ["age"], "quasi_identifiers": ["age"]}]
)
def test_wrong_columns_are_refused(wrong: dict[str, list[str]]) -> None:
    with pytest.raises(UnknownColumnError):
        choose(FrameRelation(PEOPLE), **wrong)


def test_null_is_a_sensitive_value_too_the_last_one() -> None:
    cells = pl.DataFrame({"class": [7, 7, 9], "value": [1, None, 1], "records": [2, 2, 4]})

    found = sensitive_report("income", cells, ordered=True)

    assert (found.distinct_l, found.entropy_l) == (1, 1.0)
    both = sensitive_report("income", cells.filter(pl.col("class") == 7), ordered=True)
    assert (both.distinct_l, both.entropy_l, both.recursive_c) == (2, pytest.approx(2), 1.0)
    # Half of the first class is null, a quarter of the table.
    assert (found.t_equal, found.t_ordered) == (pytest.approx(1 / 4), pytest.approx(1 / 4))


def test_counted_rows_are_as_many_records() -> None:
    frame = PEOPLE.drop("id")
    counted = frame.group_by(pl.all()).agg(pl.len().alias("n"))
    options = Options(suppressed="*", population=FrameRelation(counted, counts="n"))
    relation = FrameRelation(counted, counts="n")
    choice = choose(relation, quasi_identifiers=["age", "sex"], sensitive=["income"])

    assert assess(relation, choice, table="people", options=options) == report_of(
        frame, Options(suppressed="*", population=FrameRelation(frame))
    )


def test_an_empty_table() -> None:
    report = report_of(PEOPLE.clear())

    assert (report.records, report.k, report.prosecutor.highest, report.sensitive) == (0, 0, 0, ())
    assert "<svg" in class_size_plot(report)


def test_no_quasi_identifier_is_one_class() -> None:
    relation = FrameRelation(PEOPLE.select("income"))
    report = assess(relation, choose(relation, sensitive=["income"]), table="incomes")

    assert (report.k, report.sizes.classes) == (12, 1)
    assert report.sensitive[0].t_equal == pytest.approx(0)


def test_json_and_metadata_are_plain() -> None:
    report = report_of(PEOPLE, Options(suppressed="*"))

    document = json.loads(json.dumps(report.as_json()))
    assert (document["k"], document["classes"], document["quasi_identifiers"]) == (1, 3, ["age", "sex"])
    assert sum(one["size"] * one["classes"] for one in document["class_sizes"]) == document["records"]
    assert risk_metadata(report)["risk/k"] == 1
    assert "| income | 1 |" in sensitive_markdown(report)
    assert "| income | 4 | 36.4% |" in combinations_markdown(report)


def test_the_plot_counts_every_record_once_and_tells_who_is_at_risk() -> None:
    report = report_of(PEOPLE, Options(suppressed="*"), k=3)

    shown = bars(report)
    assert [(bar.label, bar.records, bar.at_risk) for bar in shown] == [
        ("1", 1, True), ("2", 0, True), ("3-4", 4, False), ("5-9", 6, False),
    ]  # fmt: skip
    assert sum(bar.records for bar in shown) == report.records


def test_the_plot_is_small_enough_to_be_shown_in_place() -> None:
    sizes = (1, 2, 6, 8, 20, 60, 200, 700, 2000)
    frame = pl.concat(
        [pl.DataFrame({"age": [str(size)] * size, "sex": "f", "income": 1}) for size in sizes], how="vertical_relaxed"
    )

    report = report_of(frame, k=7)

    assert len(bars(report)) == 9
    assert len(plot_markdown(report)) < 1000


@pytest.mark.parametrize("delimiter", list(",;\t|"))
@pytest.mark.parametrize("compressed", [False, True])
def test_csv_files(tmp_path: Path, delimiter: str, compressed: bool) -> None:
    text = PEOPLE.write_csv(separator=delimiter).encode()
    path = tmp_path / ("people.csv.gz" if compressed else "people.csv")
    path.write_bytes(gzip.compress(text) if compressed else text)

    assert read_table(path).equals(PEOPLE)


def test_codes_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "codes.csv"
    path.write_text("zip,price,count,void\n02134,1.5,1,\n2134,2,20,\n", encoding="utf-8")

    frame = read_table(path)

    assert frame.schema == {"zip": pl.String, "price": pl.Float64, "count": pl.Int64, "void": pl.String}
    assert frame["zip"].to_list() == ["02134", "2134"]


def test_json_lines_and_parquet(tmp_path: Path) -> None:
    PEOPLE.write_ndjson(tmp_path / "people.jsonl")
    (tmp_path / "people.jsonl.gz").write_bytes(gzip.compress((tmp_path / "people.jsonl").read_bytes()))
    PEOPLE.write_parquet(tmp_path / "people.parquet")

    for name in ("people.jsonl", "people.jsonl.gz", "people.parquet"):
        assert read_table(tmp_path / name).equals(PEOPLE), name


def test_a_broken_file_is_named_and_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"secret": "S3kret"\n', encoding="utf-8")

    with pytest.raises(TableFileError, match=r"broken\.jsonl") as caught:
        read_table(path)
    assert "S3kret" not in str(caught.value)
    with pytest.raises(TableFileError, match="no such file"):
        read_table(tmp_path / "missing.csv")
    with pytest.raises(TableFileError, match="not a table"):
        read_table(tmp_path / "table.xlsx")

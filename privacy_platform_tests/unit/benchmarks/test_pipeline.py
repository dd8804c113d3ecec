"""The parts of the pipeline benchmark that need no service: balances, growth, ratios, tables, plots, peers' kernels."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import polars as pl
import pytest

from benchmarks.measuring import markdown, plots, svg
from benchmarks.measuring.peers import COMPARED, Record, differing_groups, ratios
from benchmarks.measuring.processes import CpuMeter, Group, cpu_seconds, folder_bytes, memory_bytes
from benchmarks.measuring.results import Balance, Ratio, RunResult, StageResult, TableSize, growth, load, save, short
from benchmarks.measuring.stages import END, EXACT, Landing, exact_policy
from benchmarks.peers import duckdb_aggregates, duckdb_events, polars_events
from benchmarks.peers.texts import OWN, PATTERNS, SUSPICIOUS
from benchmarks.quick import Quick, figures, shown
from privacy_platform.policy.compile import aggregate_table, anonymized_table
from privacy_platform.policy.load import load_policies
from privacy_platform.policy.tables import WHOLE
from privacy_platform.synthetic import generate


def stage(name: str, seconds: float, rows: int = 1_000, part: str = "rows", error: str | None = None) -> StageResult:
    return StageResult(
        name=name, part=part, rows=rows, seconds=seconds, error=error, cpu={"driver": 1.0, "PostgreSQL": 2.0},
        memory={"JVM": 2_000_000_000}, disk=3_000_000, database=5_000, wal=7,
    )  # fmt: skip


def run(events: int = 1_000, factor: float = 1.0, **changes: object) -> RunResult:
    stages = [
        stage("raw_users", 1.0 * factor, events),
        stage("raw_events", 2.0 * factor, events),
        stage("anonymized_users", 1.0 * factor, events),
        stage("anonymized_events", 4.0 * factor, events),
        stage("daily_event_metrics, exact", 6.0 * factor, events, "exact"),
        stage("user_cohorts, private", 3.0 * factor, events, "private"),
    ]
    fields = {"users": 100, "events": events, "days": 30, "format": "jsonl", "machine": {"processor": "P", "cores": 2}}
    return RunResult(**{**fields, "stages": tuple(stages), **changes})


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    result = run(balances=(Balance(stage="raw_users", read=3, became={"published": 3}),), files={"users": 10})
    save(tmp_path / "made" / "r.json", result)
    assert load([tmp_path / "made" / "r.json"]) == [result]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["r.json"]


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SystemExit, match="holds no results"):
        load([tmp_path / "other.json"])


def test_runs_are_loaded_smallest_first(tmp_path: Path) -> None:
    for events in (5_000, 1_000):
        save(tmp_path / f"{events}.json", run(events))
    assert [r.events for r in load([tmp_path / "5000.json", tmp_path / "1000.json"])] == [1_000, 5_000]


def test_rows_are_reconciled_only_if_none_is_missing() -> None:
    fine = Balance(stage="raw_users", read=10, became={"published": 8, "quarantined": 2})
    short_of_one = Balance(stage="raw_events", read=10, became={"published": 9})
    assert fine.difference == 0
    assert short_of_one.difference == 1
    assert run(balances=(fine,)).reconciled
    assert not run(balances=(fine, short_of_one)).reconciled
    assert not run().reconciled


def test_growth_is_of_time_a_row() -> None:
    found = {each.name: each for each in growth([run(1_000), run(10_000, factor=12)])}
    assert found["raw_events"].micros == (2_000.0, 2_400.0)
    assert found["raw_events"].factors == (1.2,)
    assert found["row path, an event"].micros == (8_000.0, 9_600.0)
    assert found["all but generating, an event"].factors == (1.2,)


def test_growth_leaves_out_what_one_run_has_not() -> None:
    failed = run(stages=(stage("raw_users", 1.0), stage("raw_events", 1.0, error="gone")))
    assert [each.name for each in growth([run(), failed])] == ["raw_users"]


def test_seconds_of_a_stage_that_failed_are_not_added_up() -> None:
    result = run(stages=(stage("a", 1.0), stage("b", 2.0, error="gone")))
    assert result.seconds(["a"]) == 1.0
    assert result.seconds(["a", "b"]) is None
    assert result.seconds(["a", "c"]) is None


def test_ratios_are_of_seconds_and_by_the_row_where_rows_differ() -> None:
    peers = (
        stage("DuckDB, users", 1.0, part="peers"),
        stage("DuckDB, events", 3.0, part="peers"),
        stage("floor, bare COPY, users", 0.5, part="peers"),
        stage("floor, bare COPY, events", 1.5, part="peers"),
        stage("Polars streaming, events", 4.0, part="peers"),
        stage("Spark SQL + JDBC, events", 3.0, rows=100, part="peers"),
    )
    found = {ratio.name: ratio for ratio in ratios(run(peers=peers))}
    assert found["row path / DuckDB's load"].value == 2.0
    assert found["row path / DuckDB's load"].met is False
    assert found["row path / floor"].value == 4.0
    assert found["row path, events / Polars streaming"].value == 1.5
    assert found["row path, events / Spark SQL + JDBC, by the row"].value == 0.2
    assert found["exact aggregates / DuckDB over Parquet"].value is None
    assert found["exact aggregates / DuckDB over Parquet"].met is None


def test_what_a_peer_has_cost_is_kept_when_what_follows_fails() -> None:
    kept: list[RunResult] = []
    record = Record(run(), kept.append)
    record.add(stage("DuckDB, users", 1.0, part="peers"))
    record.add(stage("DuckDB, events", 3.0, part="peers"))
    record.note("rows", lambda: 7)
    record.note("groups", lambda: {}["Ada"])
    assert kept[-1] == record.result
    assert next(r.value for r in record.result.ratios if r.name == "row path / DuckDB's load") == 2.0
    assert record.result.facts["rows"] == 7
    assert str(record.result.facts["groups"]).startswith("not found out (KeyError in ")
    assert "Ada" not in str(record.result.facts)


def test_the_tables_say_what_failed_and_what_was_missed() -> None:
    text = markdown.of_run(
        run(
            stages=(stage("raw_users", 1.0), stage("raw_events", 1.0, error="no room")),
            balances=(Balance(stage="raw_users", read=10, became={"published": 9, "blank": 0}),),
            ratios=(Ratio(name="a / b", value=2.0, limit=1.8), Ratio(name="a / c", value=None, limit=1.0)),
        )
    )
    assert "failed: no room" in text
    assert "**Not complete.**" in text
    assert "| raw_users | 10 | published 9 | 1 |" in text
    assert "| a / b | 2.00 | ≤ 1.8 | **missed** |" in text
    assert "| a / c | not measured | ≤ 1 |  |" in text


def test_every_row_of_a_table_has_the_cells_of_its_head() -> None:
    text = markdown.of_runs([run(1_000, peers=(stage("DuckDB, events", 1.0), stage("Polars", 1.0, error="x"))),
                             run(10_000)])  # fmt: skip
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, block


def test_small_tables_are_added_up() -> None:
    sizes = (("raw.a", 1_000_000), ("raw.b", 500), ("raw.c", 600))
    text = markdown.of_run(run(tables=tuple(TableSize(name=n, rows=10, table=b, indexes=b) for n, b in sizes)))
    assert "| `raw.a` | 10 | 1.0 MB | 1.0 MB | 200,000 |" in text
    assert "| 2 others | 20 | 1.1 kB | 1.1 kB |  |" in text


def test_tables_are_put_between_the_marks(tmp_path: Path) -> None:
    document = tmp_path / "d.md"
    document.write_text(f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n")
    markdown.put(document, "new")
    assert document.read_text() == f"before\n{markdown.BEGIN}\nnew\n{markdown.END}\nafter\n"
    document.write_text(f"{markdown.END} {markdown.BEGIN}")
    with pytest.raises(SystemExit, match="no marks"):
        markdown.put(document, "new")


def test_plots_are_well_formed_and_only_of_what_was_measured(tmp_path: Path) -> None:
    alone = plots.draw([run()], tmp_path / "one")
    assert {path.name for path in alone} == {"pipeline_share.svg", "pipeline_cpu.svg"}
    peers = (stage("DuckDB, events", 3.0, part="peers"), stage("Polars, events", 1.0, error="gone", part="peers"))
    both = plots.draw([run(1_000), run(10_000, peers=peers)], tmp_path / "two")
    assert len(both) == 4
    for path in (*alone, *both):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_a_chart_escapes_its_labels_and_leaves_out_what_is_missing() -> None:
    text = svg.grouped("a < b", "s", ["x & y", "z"], {"one": [1.0, None]})
    ElementTree.fromstring(text)
    assert "a &lt; b" in text
    assert text.count("<title>") == 2  # a bar and its legend


@pytest.mark.parametrize(("number", "text"), [(1_000_000, "1M"), (100_000, "100k"), (1_234, "1234"), (0, "0")])
def test_numbers_as_people_say_them(number: int, text: str) -> None:
    assert short(number) == text


def test_days_of_events_end_with_the_last_one() -> None:
    policies = load_policies().datasets
    landing = Landing(1, 2, 3)
    days = landing.partitions(policies["events"])
    assert [p.day for p in days if p.day][-1] == END
    assert len(days) == 3
    assert landing.partitions(policies["users"]) == [WHOLE]
    assert (landing.rows("users"), landing.rows("events")) == (1, 2)


def test_the_exact_twin_asks_the_same_without_noise() -> None:
    policies = load_policies()
    for policy in policies.aggregates.values():
        if policy.is_private:
            twin = exact_policy(policy)
            assert not twin.is_private
            assert (twin.dimensions, twin.measures) == (policy.dimensions, policy.measures)
            assert twin.aggregate == policy.aggregate + EXACT


# Both work for a tenth of a second: the kernel counts in hundredths, and Python starts in less than one.
SERVER = """
import os
child = os.fork()
sum(number for number in range(3_000_000))
if child == 0:
    os._exit(0)
os.wait()
print(flush=True)
input()
"""


def test_processor_time_of_what_has_ended_is_not_lost() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        assert server.stdin
        server.stdout.readline()
        alone = cpu_seconds(server.pid, None)
        assert alone[Group.DRIVER] > 0
        assert alone[Group.JVM] == alone[Group.WORKERS] == alone[Group.SERVER] == 0
        assert cpu_seconds(2**22 + 1, server.pid)[Group.SERVER] > 0
        assert memory_bytes(2**22 + 1, server.pid)[Group.SERVER] > 0
        print(file=server.stdin, flush=True)


def test_a_folder_is_as_large_as_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 100_000)
    assert folder_bytes(tmp_path) >= 100_000
    assert folder_bytes(tmp_path / "gone") == 0


def test_differing_groups_are_counted_on_either_side() -> None:
    ours = pl.DataFrame({"day": ["a", "b", "c"], "n": [1, 2, None], "x": [1.0, 2.0, None]})
    same = pl.DataFrame({"day": ["a", "b", "c"], "n": [1, 2, None], "x": [1.0, 2.0 + 1e-12, None]})
    other = pl.DataFrame({"day": ["a", "b", "d"], "n": [1, 3, None], "x": [1.0, 2.0, None]})
    assert differing_groups(ours, same, ["day"]) == 0
    assert differing_groups(ours, other, ["day"]) == 3  # b differs, c and d stand alone
    assert differing_groups(ours.clear(), other, ["day"]) == 3


def test_what_is_compared_are_columns_of_the_tables() -> None:
    for name, policy in load_policies().datasets.items():
        assert set(COMPARED[name]) < {column.name for column in anonymized_table(policy).columns}


def test_duckdb_computes_the_columns_of_every_packaged_aggregate() -> None:
    policies = load_policies()
    assert set(duckdb_aggregates.QUERIES) == set(policies.aggregates)
    with duckdb.connect() as connection:
        for name in ("users", "events"):
            table = anonymized_table(policies.datasets[name])
            kinds = {"timestamptz": "TIMESTAMP", "double precision": "DOUBLE"}
            columns = ", ".join(f'"{c.name}" {kinds.get(c.type.value, c.type.value)}' for c in table.columns)
            connection.execute(f"CREATE TABLE {name} ({columns})")
        for name, query in duckdb_aggregates.QUERIES.items():
            policy = policies.aggregates[name]
            twin = exact_policy(policy) if policy.is_private else policy
            wanted = [c.name for c in aggregate_table(twin, policies).columns if c.name != "is_final"]
            assert connection.sql(query).columns == wanted


def test_polars_publishes_the_columns_of_the_table(tmp_path: Path) -> None:
    report = generate(users=20, events=200, out=tmp_path, seed=1)
    users, events = (next(f.path for f in report.files if f.dataset == name) for name in ("users", "events"))
    people = pl.scan_ndjson(users).select("user_id", *(name for name in OWN if name != "user_id"))
    made = polars_events.transformed(pl.scan_ndjson(events, schema=polars_events.TYPES), people).collect()
    assert made.schema == anonymized_table(load_policies().datasets["events"]).schema()
    raw = pl.read_ndjson(events)
    assert sorted(made["event_id"]) == sorted(raw["event_id"])  # a join keeps no order
    assert made["ip_subnet"].null_count() == raw["ip_address"].null_count()
    assert not set(made["session_hash"]) & set(raw["session_id"])


TEXTS = {
    "mail ada@example.org": "mail [EMAIL]",
    "I am Ada Lovelace": "I am [FIRST_NAME] [LAST_NAME]",
    "adaptor": "adaptor",
    "size 42": "size 42",
    "call +44 20 7946 0123": "call [PHONE]",
    None: None,
}
PERSON = {"user_id": "u1", "email": "ada@example.org", "first_name": "Ada", "last_name": "Lovelace", "phone": None}


def searches(folder: Path) -> tuple[Path, Path]:
    """A file of events with one search each, and one of the person who made them."""
    columns = dict.fromkeys(polars_events.TYPES)
    rows = [columns | {"event_id": str(n), "user_id": "u1", "search_query": text} for n, text in enumerate(TEXTS)]
    events, users = folder / "events.jsonl", folder / "users.jsonl"
    pl.DataFrame(rows, schema=polars_events.TYPES).write_ndjson(events)
    pl.DataFrame([PERSON], schema=dict.fromkeys(PERSON, pl.String)).write_ndjson(users)
    return events, users


def test_polars_replaces_what_is_personal_in_texts(tmp_path: Path) -> None:
    events, users = searches(tmp_path)
    people = pl.scan_ndjson(users, schema=dict.fromkeys(PERSON, pl.String))
    made = polars_events.transformed(pl.scan_ndjson(events, schema=polars_events.TYPES), people).collect()
    assert made.sort("event_id")["search_query"].to_list() == list(TEXTS.values())


def test_duckdb_replaces_what_is_personal_in_texts(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        made = pl.from_arrow(duckdb_events.published(connection, *searches(tmp_path)).to_arrow_table())
    assert isinstance(made, pl.DataFrame)
    assert made.sort("event_id")["search_query"].to_list() == list(TEXTS.values())
    assert made.columns == list(anonymized_table(load_policies().datasets["events"]).schema())


@pytest.mark.parametrize("text", ["a@b.example", "10.11.12.13", "4111 1111 1111 1111", "+44 20 7946 0123"])
def test_every_text_that_a_pattern_changes_is_suspicious(text: str) -> None:
    found = pl.Series([text])
    assert found.str.contains(SUSPICIOUS).all()
    for pattern, replacement in PATTERNS:
        found = found.str.replace_all(pattern, replacement)
    assert found.str.contains(r"^\[[A-Z_]+\]$").all()


def test_quick_figures_stand_beside_the_committed_ones() -> None:
    here = {"processor": "P", "load_at_start": 0.1}
    before = Quick(users=1, events=2, machine=here, ratios={"a / b": 2.0, "gone": 1.0}, seconds={"a": 4.0})
    now = Quick(users=1, events=2, machine=here, ratios={"a / b": 3.0, "new": 1.0}, seconds={"a": 4.0})
    text = shown(before, now)
    assert "| a / b | 2.00 | 3.00 | +50% slower |" in text
    assert "| gone | 1.00 | – | – |" in text
    assert "| new | – | 1.00 | – |" in text
    assert "elsewhere" not in text
    assert "measured elsewhere (processor P and now Q)" in shown(
        before, now.model_copy(update={"machine": {"processor": "Q"}})
    )
    assert "are of 1 users" in shown(before, now.model_copy(update={"users": 9}))
    assert "| a / b | – | 3.00 | – |" in shown(None, now)
    assert "Nothing is committed yet" in shown(None, now)
    assert "The committed figures: old." in shown(before.model_copy(update={"note": "old."}), now)


def test_quick_keeps_ratios_and_seconds_of_what_has_ended() -> None:
    ratios = (Ratio(name="a / b", value=2.0), Ratio(name="  of it", value=3.0), Ratio(name="c", value=None))
    stages = (stage("raw_users", 1.0), stage("raw_events", 1.0, error="gone"), stage("x, private", 1.0, part="private"))
    kept = figures(run(stages=stages, ratios=ratios), {"stage": 0.5})
    assert kept.ratios == {"a / b": 2.0, "stage": 0.5}
    assert kept.seconds == {"raw_users": 1.0}


JVM = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as Spark's daemon does
worker = os.fork()
if worker == 0:
    sum(number for number in range(3_000_000))
    print("worked", flush=True)
    time.sleep(60)
    os._exit(0)
input()
os.kill(worker, signal.SIGKILL)
try:
    os.waitpid(worker, 0)
except ChildProcessError:
    print("ended", flush=True)
input()
"""


def test_processor_time_of_workers_that_nobody_waits_for_is_remembered(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.symlink_to(sys.executable)
    with subprocess.Popen([java, "-c", JVM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as jvm:
        assert jvm.stdout
        assert jvm.stdin
        meter = CpuMeter(jvm.pid, None)
        assert jvm.stdout.readline() == "worked\n"
        worked = meter.read()[Group.WORKERS]
        jvm.stdin.write("\n")
        jvm.stdin.flush()
        assert jvm.stdout.readline() == "ended\n"
        assert meter.read()[Group.WORKERS] >= worked > 0
        assert cpu_seconds(jvm.pid, None)[Group.WORKERS] == 0

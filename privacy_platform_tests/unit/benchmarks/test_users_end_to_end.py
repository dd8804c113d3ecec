"""The parts of the users benchmark that need no service: ratios, targets, memory, and that peers do the same work."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.common import Timing
from benchmarks.peers.memory import MemorySampler
from benchmarks.peers.row_udfs import functions
from benchmarks.users_end_to_end import Seconds, Target, head, paired, targets

CITIES = Path(__file__).parents[3] / "privacy_platform" / "policies" / "hierarchies" / "city.csv"


def test_ratios_are_of_neighbouring_runs() -> None:
    assert paired([2.0, 6.0], [1.0, 2.0]) == (2.0, 3.0)
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("value", "at_most", "met"), [(1.0, True, True), (1.1, True, False), (1.1, False, True), (None, True, None)]
)
def test_a_target_is_met_missed_or_not_measured(value: float | None, at_most: bool, met: bool | None) -> None:
    assert Target("figure", value, 1.0, at_most).met is met


def test_figures_come_from_pairs_and_rates() -> None:
    seconds = Seconds({"ours, stage": [1.0, 3.0], "DuckDB + ADBC": [2.0, 2.0, 4.0], "ours, the whole job": [10.0]})
    timings = [Timing("ours, stage", (1.0, 3.0), 100), Timing("usual design, pickled rows", (10.0,), 10)]
    figures = {f.name: f for f in targets(seconds, timings, 2**30, runs=2)}
    assert figures["ours, stage: time / DuckDB's"].pairs == (0.5, 1.5)
    assert figures["ours, the whole job: time / DuckDB's"].value == 2.5
    assert figures["ours, stage: times faster a row than usual design, pickled rows"].value == 50
    assert figures["ours, stage: times faster a row than usual design, values as Arrow"].met is None
    assert json.dumps([f.as_json() for f in figures.values()])


def test_head_takes_the_first_lines(tmp_path: Path) -> None:
    source = tmp_path / "all"
    source.write_bytes(b"a\nb\nc\n")
    assert head(source, tmp_path / "two", 2).read_bytes() == b"a\nb\n"
    assert head(source, tmp_path / "more", 9).read_bytes() == b"a\nb\nc\n"


BALLAST = """
import sys
print("started", flush=True)
sys.stdin.readline()
ballast = bytearray(b"x") * int(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
del ballast
print("let go", flush=True)
sys.stdin.readline()
"""


def test_the_sampler_sees_memory_that_came_and_went() -> None:
    # A process of its own: in the one that runs the tests, what others give back hides what comes.
    size = 64 * 2**20
    command = [sys.executable, "-c", BALLAST, str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == "started\n"
        with MemorySampler([child.pid], every=0.01) as sampler:
            before = sum(sampler.now().values())
            print(file=child.stdin, flush=True)
            assert child.stdout.readline() == "held\n"
            end, held = time.monotonic() + 60, sampler.samples
            while sampler.samples < held + 2 and time.monotonic() < end:
                time.sleep(0.01)
            print(file=child.stdin, flush=True)
            assert child.stdout.readline() == "let go\n"
            after = sum(sampler.now().values())
        print(file=child.stdin, flush=True)
    assert sampler.peak >= before + size // 2
    assert after <= sampler.peak - size // 2
    assert sum(sampler.parts.values()) == sampler.peak


def test_a_process_that_is_gone_does_not_end_the_sampler() -> None:
    assert not MemorySampler([2**22 + 1]).now()


def test_row_functions_do_what_the_policy_does() -> None:
    made = {output: function for output, (_, function) in functions(CITIES).items()}
    expected = {
        "age_bucket": (34, "25-34"),
        "region": (" san diego", "West"),
        "zip_prefix": ("92101", "921**"),
        "ip_subnet": ("192.168.1.42", "192.168.1.0"),
        "phone_suffix": ("+1 (619) 555-4567 ext 9", "***-***-4567"),
    }
    assert {name: made[name](value) for name, (value, _) in expected.items()} == {
        n: o for n, (_, o) in expected.items()
    }
    token = made["user_token"]("user_000001")
    assert token is not None
    assert token.startswith("tok_")
    assert len(token) == 36
    assert all(function(None) is None for function in made.values())

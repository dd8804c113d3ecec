"""The command line: thin, every command a few calls into the platform; `--json` for machines."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from privacy_platform import settings
from privacy_platform.budget_cli import budget_app
from privacy_platform.console import Json, command, err, out, show_json, show_table
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.kafka_cli import kafka_app, produce_app
from privacy_platform.stream_cli import stream_app
from privacy_platform.warehouse.connection import Role

app = typer.Typer(
    name="privacy-platform",
    help="From policy files to provably clean zones: raw, anonymized and analytics tables in PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
policy_app = typer.Typer(help="Look at policy files.", no_args_is_help=True)
keys_app = typer.Typer(
    help="The keyring. Losing it loses every sealed record and token for good.", no_args_is_help=True
)
db_app = typer.Typer(help="The warehouse in PostgreSQL.", no_args_is_help=True)
audit_app = typer.Typer(help="The audit log.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
app.add_typer(keys_app, name="keys")
app.add_typer(db_app, name="db")
app.add_typer(audit_app, name="audit")
app.add_typer(budget_app, name="budget")
app.add_typer(kafka_app, name="kafka")
app.add_typer(produce_app)
app.add_typer(stream_app)


class OutputFormat(StrEnum):
    """File formats of generated data."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each task that reports (task, done, total); on stderr, so that output stays clean."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        disable=quiet,
    ) as progress:
        tasks: dict[str, Any] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield report


@command(app, "generate")
def generate(
    users: Annotated[int, typer.Option(min=0, help="Number of users.")] = 20_000,
    events: Annotated[int, typer.Option(min=0, help="Number of events.")] = 400_000,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("."),
    file_format: Annotated[OutputFormat, typer.Option("--format", help="File format.")] = OutputFormat.JSONL,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    dirty: Annotated[float, typer.Option(min=0, max=1, help="Share of rows with planted faults.")] = 0.0,
    compress: Annotated[bool, typer.Option(help="Write .gz files.")] = False,
    split_by_day: Annotated[bool, typer.Option(help="One events file a day.")] = False,
    as_json: Json = False,
) -> None:
    """Generate realistic users and events; nobody in them exists."""
    from privacy_platform.synthetic import generate as generate_data

    with progress_bar(as_json) as report:
        result = generate_data(
            users=users,
            events=events,
            out=out_dir,
            format=file_format.value,
            seed=seed,
            dirty=dirty,
            compress=compress,
            split_by_day=split_by_day,
            progress=report,
        )
    files = [{"path": str(file.path), "rows": file.rows, "bytes": file.size} for file in result.files]
    if as_json:
        show_json({"files": files, "planted": dict(result.planted)})
        return
    rows = [[str(f["path"]), f"{f['rows']:,}", f"{f['bytes']:,}"] for f in files]
    show_table("Generated", ["file", "#rows", "#bytes"], rows)
    for kind, count in result.planted.items():
        out.print(f"planted {kind}: {count:,}")


@command(app, "materialize")
def materialize(
    selection: Annotated[str, typer.Argument(help="Dagster's asset selection, e.g. '*' or 'key:raw_users+'.")],
    days: Annotated[str, typer.Option(help="FIRST..LAST day for daily tables; by default all days of data.")] = "",
    as_json: Json = False,
) -> None:
    """Materialize tables in this process, recorded in Dagster as a run."""
    summary = _materialize(selection, _days(days), quiet=as_json)
    if as_json:
        show_json(asdict(summary))
    else:
        _show_summary(summary)
    if not summary.succeeded:
        raise typer.Exit(1)


def _days(text: str) -> tuple[date, date] | None:
    if not text:
        return None
    first, _, last = text.partition("..")
    try:
        return date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        raise PrivacyPlatformError(f"--days {text}: write it as 2026-06-01..2026-06-30.") from None


def _materialize(selection: str, days: tuple[date, date] | None, *, quiet: bool) -> Any:
    from privacy_platform.definitions import build_definitions
    from privacy_platform.defs import runs
    from privacy_platform.defs.assets import landing_names
    from privacy_platform.defs.instance import open_instance
    from privacy_platform.engine.early import start_early
    from privacy_platform.policy.load import load_policies
    from privacy_platform.vault.keyring import ensure_keyring

    ensure_keyring()
    policies = load_policies()
    # Where nothing has landed there may be nothing to do, and no session to start.
    if any(landing_names(policy, settings.landing()) for policy in policies.datasets.values()):
        start_early()
    with (
        open_instance() as instance,
        Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=err,
            disable=quiet,
        ) as progress,
    ):
        tasks: dict[str, Any] = {}

        def report(table: str, state: str) -> None:
            if table not in tasks:
                tasks[table] = progress.add_task(table, total=1, state=state)
            progress.update(tasks[table], state=state, completed=int(not state.startswith("running")))

        definitions = build_definitions(policies)
        return runs.materialize(definitions, policies, instance, selection, days=days, progress=report)


def _show_summary(summary: Any) -> None:
    rows = []
    for table in summary.tables:
        passed = sum(table.checks.values())
        colour = {"published": "green", "failed": "red"}.get(table.status, "yellow")
        rows.append(
            [
                table.zone,
                table.table,
                f"[{colour}]{table.status}[/]",
                f"{table.rows:,}",
                f"{table.seconds:.1f}",
                f"{passed}/{len(table.checks)}",
            ]
        )
    show_table(f"Run {summary.run_id}", ["zone", "table", "status", "#rows", "#seconds", "#checks passed"], rows)
    for table in summary.tables:
        if table.message:
            err.print(f"[bold red]{table.table}:[/] {escape(table.message)}", highlight=False, soft_wrap=True)


DEMO_USERS, DEMO_EVENTS, DEMO_SEED = 20_000, 400_000, 2026


@command(app, "demo")
def demo(
    users: Annotated[int, typer.Option(min=1, help="Number of users.")] = DEMO_USERS,
    events: Annotated[int, typer.Option(min=1, help="Number of events.")] = DEMO_EVENTS,
    as_json: Json = False,
) -> None:
    """Generate data, materialize the whole graph, and show what came out."""
    from privacy_platform.synthetic import generate as generate_data

    started = time.monotonic()
    folder = settings.home() / "demo"
    landing = settings.landing()
    for made in (settings.home(), folder, landing):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = {f"{name}-demo-{users}-{events}.jsonl": f"{name}.jsonl" for name in ("users", "events")}
    if not all((landing / name).exists() for name in wanted):
        with progress_bar(as_json) as report:
            generate_data(users=users, events=events, out=folder, seed=DEMO_SEED, progress=report)
        for stale in {*landing.glob("users-demo-*.jsonl"), *landing.glob("events-demo-*.jsonl")}:
            stale.unlink()
        for name, generated in wanted.items():
            (folder / generated).replace(landing / name)
    summary = _materialize("*", None, quiet=as_json)
    document = {
        "run_id": summary.run_id,
        "succeeded": summary.succeeded,
        "seconds": round(time.monotonic() - started, 2),
        "tables": {t.table: {"zone": t.zone, "rows": t.rows, "seconds": t.seconds} for t in summary.tables},
        "checks": {f"{t.table}.{name}": passed for t in summary.tables for name, passed in t.checks.items()},
    }
    (folder / "summary.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if as_json:
        show_json(document)
    else:
        _show_summary(summary)
    if not summary.succeeded:
        raise typer.Exit(1)
    if not as_json:
        program = _program()
        out.print("\nTry next:")
        out.print(f"  {program} up                        # the graph in the Dagster UI", highlight=False)
        out.print(f"  {program} db url --role analyst     # query the anonymized zone", highlight=False)
        out.print(f"  {program} audit verify              # prove that the audit log is whole", highlight=False)


def _program() -> str:
    """How the user calls this program from where they are."""
    path = Path(sys.argv[0])
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return path.name


@command(app, "up")
def up(
    port: Annotated[int, typer.Option(help="Port of the web server on 127.0.0.1.")] = 3000,
    kafka: Annotated[bool, typer.Option("--kafka", help="Start the embedded Kafka broker, too.")] = False,
) -> None:
    """Start PostgreSQL, Dagster's web server and its daemon; Ctrl-C ends the latter two."""
    from privacy_platform.defs.instance import open_instance
    from privacy_platform.defs.runs import fail_abandoned_runs
    from privacy_platform.streaming import broker, topics
    from privacy_platform.vault.keyring import ensure_keyring

    ensure_keyring()
    if kafka:
        topics.ensure_topic(broker.start(settings.home()).client)
    settings.landing().mkdir(parents=True, exist_ok=True, mode=0o700)
    with open_instance() as instance:
        fail_abandoned_runs(instance)
    workspace = ["-m", "privacy_platform.definitions"]
    bin_folder = Path(sys.executable).parent
    commands = [
        [str(bin_folder / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(port), *workspace],
        [str(bin_folder / "dagster-daemon"), "run", *workspace],
    ]
    out.print(f"Dagster: http://127.0.0.1:{port}   landing folder: {settings.landing()}", highlight=False)
    processes = [subprocess.Popen(line, cwd=settings.project_root()) for line in commands]
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        while all(process.poll() is None for process in processes):
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
    if any(process.returncode not in (0, -signal.SIGTERM, -signal.SIGINT) for process in processes):
        raise PrivacyPlatformError("Dagster ended by itself; its words are above. Is the port in use? See --port.")


@command(app, "down")
def down() -> None:
    """Stop the embedded PostgreSQL and the embedded Kafka; data and keys stay."""
    from privacy_platform.streaming import broker
    from privacy_platform.warehouse import embedded

    stopped = embedded.stop(settings.home())
    out.print("PostgreSQL has stopped." if stopped else "PostgreSQL was not running.")
    if broker.stop(settings.home()):
        out.print("Kafka has stopped.")


@command(app, "env")
def env(as_json: Json = False) -> None:
    """Print what makes `dagster …` work in this shell: eval "$(privacy-platform env)"."""
    from privacy_platform.defs.instance import instance_environment
    from privacy_platform.vault.keyring import ensure_keyring

    ensure_keyring()
    variables = instance_environment()
    if as_json:
        show_json(variables)
        return
    for name, value in variables.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


@command(app, "scan")
def scan(
    target: Annotated[
        str, typer.Argument(help="A file, a folder, a table (schema.table) or a database (postgresql://…[#table]).")
    ],
    as_json: Json = False,
) -> None:
    """Tell for every column what it is, how sure, why, and what to do with it; reads only."""
    from privacy_platform.detection.detector import detect

    with progress_bar(as_json) as report:
        scanned = [(table, detect(table)) for table in _samples(target, report)]
    if as_json:
        columns = [{**asdict(finding), "table": table.name} for table, findings in scanned for finding in findings]
        document: dict[str, Any] = {"columns": columns}
        if len(scanned) > 1:
            document["tables"] = [
                {"name": table.name, "columns": [asdict(finding) for finding in findings]}
                for table, findings in scanned
            ]
        show_json(document)
        return
    colours = {"high": "red", "medium": "yellow", "low": "cyan", "none": "dim"}
    for table, findings in scanned:
        rows = [
            [
                escape(f.name),
                f.type,
                f"[{colours[f.sensitivity]}]{f.sensitivity}[/]",
                f"{f.confidence:.2f}",
                f.technique,
                escape("; ".join(f.evidence)),
            ]
            for f in findings
        ]
        show_table(table.name, ["column", "type", "sensitivity", "#confidence", "technique", "evidence"], rows)


def _samples(target: str, report: Callable[[str, int, int], None]) -> Iterator[Any]:
    """The tables of a file, a folder, the warehouse or another database."""
    from privacy_platform.detection.reading import UnreadableFileError, files_in, read_table
    from privacy_platform.warehouse.connection import connect, connect_to
    from privacy_platform.warehouse.samples import database_tables, sample_table

    path = Path(target)
    if path.exists():
        files = files_in(path)
        if not files:
            raise UnreadableFileError(f"{path.name}: no file of a known format in this folder")
        for file in files:
            yield read_table(file, report)
        return
    if path.suffix in (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".gz"):
        raise UnreadableFileError(f"{target}: there is no such file")
    url, _, wanted = target.partition("#") if "://" in target else ("", "", target)
    with connect_to(url) if url else connect(Role.PIPELINE) as connection:
        for schema, name in database_tables(connection, wanted or None):
            yield sample_table(connection, schema, name, report)


@command(policy_app, "init")
def policy_init(
    data: Annotated[Path, typer.Argument(help="A file of the data, e.g. users.csv.")],
    name: Annotated[str, typer.Option(help="Name of the dataset; by default from the file's.")] = "",
    subject: Annotated[str, typer.Option(help="The column that names the data subject.")] = "",
    output: Annotated[Path | None, typer.Option("--out", help="File to write; printed when not given.")] = None,
) -> None:
    """Draft a complete policy from a look at the data; unsure columns are suppressed, with a comment."""
    from privacy_platform.detection.detector import detect
    from privacy_platform.policy.draft import draft_policy
    from privacy_platform.policy.load import PolicyError

    (table,) = _samples(str(data), lambda *_: None)
    stem = re.sub(r"[^a-z0-9]+", "_", table.name.lower()).strip("_")
    dataset = name or (stem if stem[:1].isalpha() else f"data_{stem}")[:32]
    text = draft_policy(dataset, f"{table.name}*", table, detect(table), subject=subject or None)
    if output is None:
        sys.stdout.write(text)
        return
    if output.exists():
        raise PolicyError(f"{output} exists; name another file, or remove it.")
    output.write_text(text, encoding="utf-8")
    out.print(f"Wrote {output}. Read it through, and put it into the folder of your policies.", highlight=False)


@command(policy_app, "check")
def policy_check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Policy files, or data files to hold against them; all policies when none is given."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Validate policies, and hold data against them: say what is wrong where."""
    from privacy_platform.policy.load import InvalidPolicy, load_policies, read_policy

    given = [path for path in files or [] if path.suffix in (".yaml", ".yml")]
    data = [path for path in files or [] if path not in given]
    if given:
        read = {path: read_policy(path) for path in given}
        problems = {str(path): p.message for path, p in read.items() if isinstance(p, InvalidPolicy)}
        datasets = [p for p in read.values() if hasattr(p, "dataset")]
        names = [str(path) for path in given]
    else:
        policies = load_policies()
        problems = {invalid.path.name: invalid.message for invalid in policies.invalid}
        names = [*policies.datasets, *policies.aggregates, *problems]
        datasets = list(policies.datasets.values())
    contradicted = {str(path): _contradicted(path, datasets) for path in data}
    if as_json:
        show_json({"checked": names, "problems": problems, "data": contradicted})
    else:
        for message in [*problems.values(), *(m for found in contradicted.values() for m in found)]:
            err.print(f"[red]✗[/] {escape(message)}", highlight=False, soft_wrap=True)
        out.print(f"{len(names) - len(problems)} of {len(names)} policies are valid.")
        if data:
            agreeing = sum(not found for found in contradicted.values())
            out.print(f"{agreeing} of {len(data)} files agree with their policy.")
    if problems or any(contradicted.values()):
        raise typer.Exit(1)


def _contradicted(path: Path, datasets: list[Any]) -> list[str]:
    """What a file of data shows that its policy denies."""
    from fnmatch import fnmatch

    from privacy_platform.policy.drift import contradictions
    from privacy_platform.policy.load import PolicyError

    fitting = [p for p in datasets if any(fnmatch(path.name, pattern) for pattern in p.source.files)]
    if len(fitting) != 1:
        raise PolicyError(
            f"{path.name}: {'no policy has' if not fitting else 'several policies have'} a pattern under source.files "
            "that fits this name; name the policy file too."
        )
    (table,) = _samples(str(path), lambda *_: None)
    return [f"{path.name}: {found.message(fitting[0])}" for found in contradictions(fitting[0], table)]


@command(policy_app, "explain")
def policy_explain(dataset: Annotated[str, typer.Argument(help="Name of the dataset.")], as_json: Json = False) -> None:
    """Say what becomes of every field, what that protects against and what not."""
    from privacy_platform.policy.load import PolicyError, load_policies

    policies = load_policies().datasets
    if dataset not in policies:
        raise PolicyError(f"There is no dataset `{dataset}`; there are {', '.join(policies)}.")
    policy = policies[dataset]
    outputs = policy.outputs()
    fates = [
        {
            "field": name,
            "sensitivity": str(field.sensitivity),
            "technique": field.technique.name,
            "output": outputs.get(name),
            "protects_against": field.technique.guards,
            "does_not": field.technique.leaves,
            "result": field.technique.remains,
        }
        for name, field in policy.fields.items()
    ]
    if as_json:
        show_json({"dataset": dataset, "fields": fates})
        return
    columns = [
        "field",
        "sensitivity",
        "technique",
        "published as",
        "protects against",
        "does not",
        "the result is",
    ]
    show_table(policy.description, columns, [[str(v) if v else "–" for v in fate.values()] for fate in fates])


@command(keys_app, "init")
def keys_init() -> None:
    """Create the keyring; back it up where the database is not."""
    from privacy_platform.vault.keyring import new_keyring, save_keyring

    path = save_keyring(new_keyring())
    out.print(
        f"Keyring written to {path}. Back it up: without it sealed records and tokens are lost.",
        highlight=False,
    )


@command(keys_app, "rotate")
def keys_rotate() -> None:
    """Add a version that seals data subjects seen from now on; tokens and keyed hashes keep joining."""
    from privacy_platform.governance.audit import AuditAction, AuditEntry, record
    from privacy_platform.locks import exclusive
    from privacy_platform.vault.keyring import KEYRING_VARIABLE, load_keyring, save_keyring
    from privacy_platform.warehouse.connection import connect
    from privacy_platform.warehouse.migrations import ensure_warehouse

    ensure_warehouse()
    if os.environ.get(KEYRING_VARIABLE):
        raise PrivacyPlatformError(f"The keyring is given by {KEYRING_VARIABLE}: rotate it where that comes from.")
    with exclusive(settings.home(), "keyring"):
        rotated = load_keyring().rotated()
        save_keyring(rotated, replace=True)
    with connect(Role.PIPELINE) as connection:
        record(connection, AuditEntry(AuditAction.KEY_ROTATE, details={"version": rotated.current}))
    out.print(f"Version {rotated.current} seals new data subjects. Back the keyring up again.")


@command(db_app, "url")
def db_url(role: Annotated[Role, typer.Option(help="Whose connection.")] = Role.ANALYST, as_json: Json = False) -> None:
    """Print the URL of the warehouse for a role, with its password."""
    from privacy_platform.warehouse.connection import database_url
    from privacy_platform.warehouse.migrations import ensure_warehouse

    ensure_warehouse()
    url = database_url(role)
    show_json({"role": str(role), "url": url}) if as_json else sys.stdout.write(url + "\n")


@command(audit_app, "verify")
def audit_verify(
    head: Annotated[
        str | None,
        typer.Option(help="A head kept elsewhere: HASH@ROW, or a file of heads, which then gets the new one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute the chain of the audit log; exit 1 when an entry was changed, removed or reordered."""
    from privacy_platform.governance.audit import AuditHead, keep_head, kept_head, verify
    from privacy_platform.warehouse.connection import connect
    from privacy_platform.warehouse.migrations import ensure_warehouse

    file = Path(head) if head and "@" not in head else None
    anchor = kept_head(file) if file else AuditHead.parse(head) if head else None
    ensure_warehouse()
    with connect(Role.COMPLIANCE) as connection:
        result = verify(connection, anchor=anchor)
    if file and result.ok:
        keep_head(file, result.head)
    if as_json:
        show_json(
            {"ok": result.ok, "entries": result.entries, "problem": result.problem, "seq": result.seq,
             "head": {"seq": result.head.seq, "hash": result.head.hash.hex()},
             "since": str(anchor) if anchor else None}
        )  # fmt: skip
    elif result.ok:
        since = f", and nothing was cut off or rewritten since entry {anchor.seq}" if anchor else ""
        out.print(f"The audit log is whole: {result.entries:,} entries{since}. Its head:")
        sys.stdout.write(f"{result.head}\n")
        if not head:
            out.print("Keep it elsewhere and give it back as --head: it proves that nothing before it was rewritten.")
    else:
        err.print(f"[bold red]Entry {result.seq} of the audit log is {result.problem}.[/]")
    if not result.ok:
        raise typer.Exit(1)


@command(audit_app, "show")
def audit_show(limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20, as_json: Json = False) -> None:
    """Show the latest entries of the audit log; the look itself is recorded."""
    from privacy_platform.governance.audit import AuditAction, AuditEntry, entries, record
    from privacy_platform.warehouse.connection import connect
    from privacy_platform.warehouse.migrations import ensure_warehouse

    ensure_warehouse()
    with connect(Role.COMPLIANCE) as connection:
        found = entries(connection, limit=limit)
        record(
            connection,
            AuditEntry(AuditAction.RESTRICTED_READ, details={"read": "audit log", "rows": len(found)}),
        )
    if as_json:
        show_json([{**asdict(e), "prev_hash": e.prev_hash.hex(), "hash": e.hash.hex()} for e in found])
        return
    rows = [
        [str(e.seq), f"{e.at:%Y-%m-%d %H:%M:%S}", e.actor, e.action, e.subject_table or e.dataset or "", e.outcome,
         escape(", ".join(f"{k}={v}" for k, v in e.details.items())[:80])]
        for e in found
    ]  # fmt: skip
    show_table("Audit log", ["#seq", "at (UTC)", "actor", "action", "what", "outcome", "details"], rows)


@command(app, "risk")
def risk(
    table: Annotated[str, typer.Argument(help="A table (schema.table), or a file (.csv, .jsonl, .parquet, .gz).")],
    role: Annotated[Role, typer.Option(help="Who looks at the table.")] = Role.ANALYST,
    quasi_identifiers: Annotated[str, typer.Option(help="Columns a person can be known by: a,b,c.")] = "",
    sensitive: Annotated[str, typer.Option(help="Columns nobody should learn: x,y.")] = "",
    k: Annotated[int | None, typer.Option(min=2, help="Smaller classes are at risk [policy's, or 5].")] = None,
    suppressed: Annotated[
        str | None, typer.Option(help="What stands in all quasi-identifiers of a suppressed record, e.g. '*'.")
    ] = None,
    population: Annotated[Path | None, typer.Option(help="A file of all who could be in the table.")] = None,
    original: Annotated[Path | None, typer.Option(help="The file before anonymization, to compare with.")] = None,
    as_json: Json = False,
) -> None:
    """What can still be learned about a person from a table, as a role sees it, or from a file."""
    from privacy_platform.anonymization.risk.choice import choose
    from privacy_platform.anonymization.risk.frame import FrameRelation, is_table_file, read_table
    from privacy_platform.anonymization.risk.report import DEFAULT_K, Options, assess

    quasi, hidden = (
        [name.strip() for name in text.split(",") if name.strip()] for text in (quasi_identifiers, sensitive)
    )
    options = Options(
        suppressed=suppressed,
        population=FrameRelation(read_table(population)) if population else None,
        original=FrameRelation(read_table(original)) if original else None,
    )
    if is_table_file(Path(table)):
        relation = FrameRelation(read_table(Path(table)))
        choice = choose(relation, quasi_identifiers=quasi, sensitive=hidden)
        report = assess(relation, choice, table=table, k=k or DEFAULT_K, options=options)
    else:
        from privacy_platform.governance.audit import AuditAction, AuditEntry, record
        from privacy_platform.policy.load import load_policies
        from privacy_platform.warehouse.connection import connect
        from privacy_platform.warehouse.migrations import ensure_warehouse
        from privacy_platform.warehouse.risk import table_risk

        ensure_warehouse()
        policies = load_policies().anonymized_tables
        report = table_risk(table, role, policies, quasi_identifiers=quasi, sensitive=hidden, k=k, options=options)
        if role is Role.COMPLIANCE:
            details = {"read": "risk", "rows": report.records + report.suppressed}
            with connect(role) as connection:
                record(connection, AuditEntry(AuditAction.RESTRICTED_READ, subject_table=report.table, details=details))
    if as_json:
        show_json(report.as_json())
    else:
        _show_risk(report)


def _show_risk(report: Any) -> None:
    from privacy_platform.anonymization.risk.plot import bars

    seen_by = f" as {report.role} sees it" if report.role else ""
    suppressed = f", {report.suppressed:,} suppressed" if report.suppressed else ""
    out.print(f"[bold]{escape(report.table)}[/]{seen_by}: {report.records:,} records{suppressed}", highlight=False)
    for words, kind in (
        ("quasi-identifiers", "quasi_identifier"),
        ("sensitive", "sensitive"),
        ("linkable pseudonyms", "pseudonym"),
        ("others", "other"),
    ):
        if names := report.of_kind(kind):
            out.print(f"  {words}: {escape(', '.join(names))}", highlight=False, soft_wrap=True)
    whole = "" if report.population else " (the table taken for the whole population)"
    rows = [
        ["k: records of the smallest class", f"{report.k:,}"],
        ["equivalence classes", f"{report.sizes.classes:,}"],
        ["unique records", f"{report.unique:,}"],
        ["near-unique records, in classes of 2 to 4", f"{report.near_unique:,}"],
        [f"records in classes smaller than {report.k_demanded}", f"{report.below_k:,}"],
        ["prosecutor risk, highest / average", _shares(report.prosecutor.highest, report.prosecutor.average)],
        [f"journalist risk, highest / average{whole}", _shares(report.journalist.highest, report.journalist.average)],
        ["marketer risk: records re-identified", f"{report.marketer:.2%}"],
        *(
            [f"{s.name}: distinct l / entropy l / t / t ordered",
             f"{s.distinct_l} / {s.entropy_l:.2f} / {s.t_equal:.3f} / {_figure(s.t_ordered)}"]
            for s in report.sensitive
        ),
    ]  # fmt: skip
    show_table("Risk", ["measure", "#value"], rows)
    shown = bars(report)
    most = max((bar.records for bar in shown), default=1)
    show_table(
        "Records by size of their class",
        ["#class size", "#classes", "#records", ""],
        [
            [bar.label, f"{bar.classes:,}", f"{bar.records:,}",
             f"[{'red' if bar.at_risk else 'blue'}]{'█' * -(-40 * bar.records // most)}[/]"]
            for bar in shown
        ],
    )  # fmt: skip
    if report.combinations:
        title = f"Smallest sets of columns that single out more than {report.identifying_share:.0%} of the records"
        found = report.combinations[:10]
        rows = [[escape(", ".join(c.columns)), f"{c.records:,}", f"{c.share:.1%}"] for c in found]
        show_table(f"{title} ({len(report.combinations)} in all)", ["columns", "#records", "#share"], rows)
    if compared := [c for c in report.columns if c.loss is not None]:
        rows = [[c.name, f"{c.loss:.4f}", _figure(c.total_variation), _figure(c.earth_mover)] for c in compared]
        show_table("Utility", ["column", "#loss (NCP)", "#total variation", "#earth mover's distance"], rows)
    for note in report.notes:
        out.print(f"Note: {escape(note)}", highlight=False, soft_wrap=True)


def _shares(*risks: float) -> str:
    return " / ".join(f"{risk:.2%}" for risk in risks)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


@command(app, "lineage")
def lineage(
    table: Annotated[
        str | None, typer.Argument(help="Table, e.g. anonymized.anonymized_users; all when left out.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    as_json: Json = False,
) -> None:
    """Show what was made from what, by which run; the look itself is recorded."""
    from privacy_platform.governance import audit
    from privacy_platform.governance import lineage as governance
    from privacy_platform.warehouse.connection import connect
    from privacy_platform.warehouse.migrations import ensure_warehouse

    ensure_warehouse()
    with connect(Role.COMPLIANCE) as connection:
        found = governance.entries(connection, target=table, limit=limit)
        details = {"read": "lineage", "rows": len(found)}
        audit.record(connection, audit.AuditEntry(audit.AuditAction.RESTRICTED_READ, details=details))
    if as_json:
        show_json([asdict(entry) for entry in found])
        return
    rows = [
        [f"{e.recorded_at:%Y-%m-%d %H:%M:%S}", e.source, e.target, e.transformation, f"{e.records_in:,}",
         f"{e.records_out:,}", e.run_id[:8]]
        for e in found
    ]  # fmt: skip
    show_table("Lineage", ["at (UTC)", "source", "target", "transformation", "#in", "#out", "run"], rows)


@command(app, "detokenize")
def detokenize(
    tokens: Annotated[list[str], typer.Argument(help="Tokens, e.g. tok_0123….", metavar="TOKEN...")],
    reason: Annotated[str, typer.Option(help="Why, e.g. a case number; kept in the audit log for good.")],
    as_json: Json = False,
) -> None:
    """Tell whose tokens these are: for compliance, with a reason, recorded before anything is shown."""
    from privacy_platform.governance.detokenize import detokenize
    from privacy_platform.vault.keyring import load_keyring
    from privacy_platform.warehouse.connection import connect
    from privacy_platform.warehouse.migrations import ensure_warehouse

    ensure_warehouse()
    with connect(Role.COMPLIANCE) as connection:
        found = detokenize(connection, load_keyring(), tokens, reason=reason)
    if as_json:
        show_json([{"token": token, "id": known} for token, known in found.items()])
    for token, known in found.items():
        if known is None:
            err.print(f"{token} is not in the vault: no such token was given out, or its data subject was erased.")
        elif not as_json:
            # An id is somebody else's text: nothing in it may steer the terminal.
            sys.stdout.write(f"{token}\t{known if known.isprintable() else json.dumps(known)}\n")
    if None in found.values():
        raise typer.Exit(1)


@command(app, "doctor")
def doctor(as_json: Json = False) -> None:
    """Look whether everything a run needs is there."""
    from privacy_platform.doctor import examine

    findings = examine()
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        rows = [["[green]ok[/]" if f.ok else "[red]no[/]", f.name, escape(f.detail)] for f in findings]
        show_table("Doctor", ["", "what", "detail"], rows)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Entry point of `python -m privacy_platform.cli`."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning")
    app()


if __name__ == "__main__":
    main()

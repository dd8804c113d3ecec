"""The pages are in step with the code: every technique, setting, check, variable and command that exists is on them."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from typer.main import get_command

from privacy_platform.anonymization import techniques
from privacy_platform.cli import app
from privacy_platform.policy import budget, model, privacy
from privacy_platform.policy.load import load_policies, read_policy
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.warehouse.checks import DESCRIPTIONS
from privacy_platform.warehouse.connection import URL_VARIABLE, Role

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted({ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")})


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def one_line(words: str) -> str:
    return " ".join(words.split())


def technique_classes() -> list[type[BaseModel]]:
    """The members of the union, `mask` taken apart into its kinds."""
    found: list[type[BaseModel]] = []
    for member in get_args(get_args(techniques.Technique)[0]):
        inner = get_args(member)
        found += list(get_args(inner[0])) if inner else [member]
    return found


def test_all_techniques_are_looked_at() -> None:
    names = {str(technique.model_fields["name"].default) for technique in technique_classes()}

    assert names == {
        "hash", "hmac", "tokenize", "generalize", "mask", "bucket", "noise", "truncate", "scrub", "suppress", "keep",
    }  # fmt: skip


@pytest.mark.parametrize("technique", technique_classes(), ids=lambda technique: technique.__name__)
def test_technique_is_documented(technique: Any) -> None:
    reference = text("docs/policy-reference.md")
    name = technique.model_fields["name"].default
    section = re.search(rf"^### {name}\n(.*?)(?=^##)", reference, re.DOTALL | re.MULTILINE)
    assert section, f"docs/policy-reference.md has no section `### {name}`"
    words = one_line(section.group(1))

    for sentence in (technique.guards, technique.leaves, technique.remains):
        assert one_line(sentence) in words
    for parameter in {field.alias or name for name, field in technique.model_fields.items()} - {"name"}:
        assert f"`{parameter}`" in words or f"`{parameter}: " in words


MODELS: list[tuple[type[BaseModel], str]] = [
    (model.DatasetPolicy, ""),
    (model.FieldPolicy, ""),
    (model.Override, "override."),
    (model.SourcePolicy, "source."),
    (model.PartitionPolicy, "partition_by."),
    (model.ReferencePolicy, "references."),
    (model.PrivacyModel, "privacy_model."),
    (model.SensitivePolicy, ""),
    (budget.PrivacyBudget, "privacy_budget."),
    (budget.UnitBudget, ""),
    (model.AggregatePolicy, ""),
    (privacy.PrivacyPolicy, "privacy."),
    (privacy.MeasurePrivacy, ""),
    (privacy.ListedKeys, ""),
    (privacy.HierarchyKeys, ""),
    (privacy.DateKeys, ""),
    (privacy.LandedKeys, ""),
    (model.WindowPolicy, "window."),
    (model.Join, "join."),
    (model.Dimension, ""),
    (model.Measure, ""),
    (model.Span, ""),
]


@pytest.mark.parametrize(("settings", "prefix"), MODELS, ids=lambda value: getattr(value, "__name__", "-"))
def test_every_setting_is_documented(settings: type[BaseModel], prefix: str) -> None:
    reference = text("docs/policy-reference.md")

    missing = [
        name
        for name in settings.model_fields
        if f"`{prefix}{name}`" not in reference and f"`{prefix}{name}." not in reference
    ]

    assert not missing


def test_every_policy_model_is_looked_at() -> None:
    known = {settings for settings, _ in MODELS}
    models = {
        value
        for module in (model, budget, privacy)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == module.__name__
    }

    assert {m for m in models if m.model_fields} == known


def test_every_check_is_documented() -> None:
    architecture = text("docs/architecture.md")

    assert all(f"| `{name}` |" in architecture for name in DESCRIPTIONS)


def test_every_environment_variable_is_documented() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "privacy_platform").rglob("*.py"))
    variables = set(re.findall(r"\b(?:PRIVACY_PLATFORM|DAGSTER)_[A-Z_]+[A-Z]\b", code))
    operations = text("docs/operations.md")

    assert URL_VARIABLE in variables
    assert [name for name in sorted(variables) if f"`{name}`" not in operations] == []
    assert [role for role in Role if f"`{role}`" not in operations] == []


def test_every_command_is_documented() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    commands = [
        f"privacy-platform {name}" + (f" {inner}" if inner else "")
        for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
        for inner in getattr(command, "commands", {"": None})
    ]

    assert len(commands) > 10
    assert [command for command in commands if command not in pages] == []


def test_every_dependency_has_a_sentence() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    page = text("docs/decisions/0010-dependencies.md")
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = [re.split(r"[\[<>=~! ;]", name)[0] for name in wanted]

    assert [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", page)] == []


def test_the_readme_policy_is_valid(tmp_path: Path) -> None:
    example = re.search(r"^```yaml\n(dataset: .*?)^```", text("README.md"), re.DOTALL | re.MULTILINE)
    assert example
    path = tmp_path / "patients.yaml"
    path.write_text(example.group(1), encoding="utf-8")

    policy = read_policy(path)

    assert isinstance(policy, DatasetPolicy)
    assert not policy.unprotected_fields()
    assert policy.dataset not in load_policies().datasets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.is_file() or (anchor and anchor not in anchors(there)):
            broken.append(target)

    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

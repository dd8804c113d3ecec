"""Reading policy files: the packaged ones and the user's folder, with errors that name file, field and the mend.

A file that does not validate is not left out in silence: it comes back as an `InvalidPolicy`, for which the asset
graph shows assets that fail with its message.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from privacy_platform import settings
from privacy_platform.anonymization.dp.plan import PlanError
from privacy_platform.anonymization.techniques import Generalize
from privacy_platform.errors import PrivacyPlatformError, SettingsError
from privacy_platform.policy.accounts import account_of, paying_dataset
from privacy_platform.policy.model import AggregatePolicy, DatasetPolicy, Join, SourceType
from privacy_platform.policy.privacy import LandedKeys
from privacy_platform.policy.private import plan_of
from privacy_platform.policy.widths import width_problem

RESERVED_PREFIXES = ("landing_", "raw_", "anonymized_")
PACKAGED = Path(__file__).resolve().parent.parent / "policies"


class PolicyError(PrivacyPlatformError):
    """A policy file is wrong; the message names the file, the field and the mend."""


@dataclass(frozen=True, slots=True)
class InvalidPolicy:
    """A policy file that did not validate."""

    name: str
    path: Path
    is_aggregate: bool
    message: str


@dataclass(frozen=True)
class PolicySet:
    """All policies in force, by name."""

    datasets: dict[str, DatasetPolicy]
    aggregates: dict[str, AggregatePolicy]
    invalid: tuple[InvalidPolicy, ...] = ()

    @cached_property
    def anonymized_tables(self) -> dict[str, DatasetPolicy]:
        """Name of the published table → its dataset's policy."""
        return {f"anonymized_{name}": policy for name, policy in self.datasets.items()}


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent loss of a key written twice."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, "a name is not text", key_node.start_mark)
        if key in result:
            raise yaml.constructor.ConstructorError(None, None, f"`{key}` is written twice", key_node.start_mark)
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_policies(folders: Iterable[Path] | None = None) -> PolicySet:
    """All policies of the packaged folder and the user's; a user's file replaces the packaged one of that name.

    Args:
        folders: folders to read instead, the later winning.
    """
    if folders is None:
        user = settings.user_policies()
        if user and not user.is_dir():
            raise SettingsError(
                f"{settings.POLICIES_VARIABLE}: there is no folder {user}; make it, or correct the variable"
            )
        folders = [PACKAGED, *([user] if user else [])]
    datasets: dict[str, DatasetPolicy] = {}
    aggregates: dict[str, AggregatePolicy] = {}
    invalid: dict[str, InvalidPolicy] = {}
    for folder in folders:
        for path in sorted({*folder.glob("*.yaml"), *folder.glob("*.yml")}):
            policy = read_policy(path)
            if isinstance(policy, InvalidPolicy):
                invalid[policy.name] = policy
                (aggregates if policy.is_aggregate else datasets).pop(policy.name, None)
            elif isinstance(policy, DatasetPolicy):
                datasets[policy.dataset] = policy
                invalid.pop(policy.dataset, None)
            else:
                aggregates[policy.aggregate] = policy
                invalid.pop(policy.aggregate, None)
    return _cross_checked(datasets, aggregates, invalid)


def read_policy(path: Path) -> DatasetPolicy | AggregatePolicy | InvalidPolicy:
    """One policy file, or what is wrong with it."""
    name, is_aggregate = path.stem.replace("-", "_").lower(), False
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
        if not isinstance(document, dict):
            raise PolicyError(f"{path.name}: a policy file is a mapping that starts with `dataset:` or `aggregate:`")
        is_aggregate = "aggregate" in document
        if is_aggregate == ("dataset" in document):
            raise PolicyError(f"{path.name}: name the policy by exactly one of `dataset:` and `aggregate:`")
        name = str(document.get("aggregate" if is_aggregate else "dataset"))
        return (AggregatePolicy if is_aggregate else DatasetPolicy).model_validate(document)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        message = f"{path.name}, line {line}: not valid YAML: {error.problem or 'unreadable'}"
    except yaml.YAMLError:
        message = f"{path.name}: holds characters that YAML does not allow; save it as plain text"
    except (UnicodeDecodeError, OSError) as error:
        message = f"{path.name}: cannot be read ({type(error).__name__}); save it as UTF-8"
    except ValidationError as error:
        message = f"{path.name}: " + "; ".join(_explain(e) for e in error.errors()[:5])
    except ValueError as error:  # YAML takes 2026-13-45 for a date
        message = f"{path.name}: not valid YAML: {error}"
    except PrivacyPlatformError as error:
        message = str(error) if str(error).startswith(path.name) else f"{path.name}: {error}"
    return InvalidPolicy(name=name, path=path, is_aggregate=is_aggregate, message=message)


_MENDS = {
    "missing": "is missing; add it",
    "extra_forbidden": "is not a setting; remove it or correct its name",
    "string_pattern_mismatch": "has a form that is not allowed; use small letters, digits and underscores",
}


def _explain(error: Any) -> str:
    # Pydantic puts the tag of a discriminated union into the path: it is not in the file.
    path = ".".join(str(part) for part in error["loc"]) or "file"
    if error["type"] == "union_tag_invalid":
        return f"{path} names none of {error['ctx']['expected_tags']}; correct its name"
    mend = _MENDS.get(error["type"])
    if mend:
        return f"{path} {mend}"
    text = error["msg"].removeprefix("Value error, ")
    return text if path == "file" else f"{path}: {text}"


def _cross_checked(
    datasets: dict[str, DatasetPolicy],
    aggregates: dict[str, AggregatePolicy],
    invalid: dict[str, InvalidPolicy],
) -> PolicySet:
    """Move policies that name a table which does not exist to the invalid ones."""
    # Until nothing changes: a dataset that goes takes those with it that refer to it.
    while problems := {n: p for n, d in datasets.items() if (p := width_problem(d) or _dataset_problem(d, datasets))}:
        for name, said in problems.items():
            _reject(datasets, invalid, name, False, said)
    published = {f"anonymized_{name}": policy for name, policy in datasets.items()}
    for name, aggregate in list(aggregates.items()):
        problem = _aggregate_problem(aggregate, published) or _privacy_problem(aggregate, published, datasets)
        if problem:
            _reject(aggregates, invalid, name, True, problem)
    return PolicySet(datasets=datasets, aggregates=aggregates, invalid=tuple(invalid.values()))


def _reject(
    policies: dict[str, Any], invalid: dict[str, InvalidPolicy], name: str, is_aggregate: bool, problem: str
) -> None:
    del policies[name]
    invalid[name] = InvalidPolicy(
        name=name, path=Path(f"{name}.yaml"), is_aggregate=is_aggregate, message=f"{name}.yaml: {problem}"
    )


def _dataset_problem(dataset: DatasetPolicy, datasets: dict[str, DatasetPolicy]) -> str | None:
    for name, field in dataset.fields.items():
        if isinstance(field.technique, Generalize):
            try:
                field.technique.check(field.type.value, sealed=field.sensitivity.sealed)
            except PrivacyPlatformError as error:
                return f"fields.{name}: {error}"
            if field.technique.level is None and not _is_searched(dataset, name):
                return (
                    f"fields.{name}: no search chooses the level of `generalize` here; pin `level`, or name the output "
                    "among privacy_model.quasi_identifiers"
                )
    if dataset.references is None:
        return None
    other = datasets.get(dataset.references.dataset)
    if other is None:
        return f"references.dataset: there is no dataset `{dataset.references.dataset}` with a valid policy"
    if other.key != other.subject:
        return (
            f"references.dataset: {other.dataset} has several records a subject; refer to one whose key is its subject"
        )
    if _refers_to_itself(dataset, datasets):
        return f"references.dataset: {other.dataset} depends on {dataset.dataset} in turn; remove one of the references"
    missing = set(dataset.subject_fields()) - set(other.sealed_fields())
    if missing:
        return f"`subject.{min(missing)}` is not a field of sensitivity high or medium of {other.dataset}"
    return None


def _is_searched(dataset: DatasetPolicy, field: str) -> bool:
    model = dataset.privacy_model
    return model is not None and dataset.outputs().get(field) in model.quasi_identifiers


def _refers_to_itself(dataset: DatasetPolicy, datasets: dict[str, DatasetPolicy]) -> bool:
    seen: set[str] = set()
    following: DatasetPolicy | None = dataset
    while following and following.references and following.references.dataset not in seen:
        seen.add(following.references.dataset)
        following = datasets.get(following.references.dataset)
    return dataset.dataset in seen


def _aggregate_problem(aggregate: AggregatePolicy, published: dict[str, DatasetPolicy]) -> str | None:
    if aggregate.aggregate.startswith(RESERVED_PREFIXES):
        return f"aggregate: `{aggregate.aggregate}` could be taken for a table of another zone; name it otherwise"
    if aggregate.source not in published:
        return f"source: there is no table `{aggregate.source}`; an aggregate reads an anonymized table"
    source = published[aggregate.source]
    if aggregate.unit != source.token_column:
        return f"unit: must be `{source.token_column}`, the people of {aggregate.source}, or group sizes say nothing"
    available = {*source.outputs().values(), *aggregate.derive}
    if aggregate.join:
        problem = _join_problem(aggregate.join, available, published)
        if problem:
            return problem
        available |= set(aggregate.join.columns)
    window = aggregate.window.column if aggregate.window else None
    times = [output for name, output in source.outputs().items() if source.fields[name].type is SourceType.TIMESTAMP]
    if window and window not in times:
        return f"window.column: `{window}` is not a published timestamp of {aggregate.source}"
    wanted = {aggregate.unit} | {d.column for d in aggregate.dimensions.values()}
    for span in aggregate.derive.values():
        wanted |= {span.span, span.by}
    for measure in aggregate.measures.values():
        wanted |= {c for c in (measure.column, measure.times, measure.once_per) if c} | set(measure.where)
    unknown = wanted - available
    return f"`{min(unknown)}` is not a column of {aggregate.source} or its join" if unknown else None


def _privacy_problem(
    aggregate: AggregatePolicy, published: dict[str, DatasetPolicy], datasets: dict[str, DatasetPolicy]
) -> str | None:
    privacy = aggregate.privacy
    if privacy is None or not aggregate.is_private:
        return None
    source = published[aggregate.source]
    if account_of(source.dataset, privacy.unit, datasets) is None:
        paying = paying_dataset(source.dataset, datasets)
        return f"privacy.unit: {paying} declares no budget for it; add `privacy_budget: {{{privacy.unit}: …}}` there"
    daily = source.outputs().get(source.partition_by.field) if source.partition_by else None
    for name, keys in privacy.known.items():
        if isinstance(keys, LandedKeys) and aggregate.dimensions[name].column != daily:
            return f"privacy.keys.{name}: `landed` is for the column that {aggregate.source} is partitioned by"
    try:
        plan_of(aggregate)
    except PlanError as error:
        return f"privacy: {error}"
    return None


def _join_problem(join: Join, available: set[str], published: dict[str, DatasetPolicy]) -> str | None:
    if join.table not in published:
        return f"join.table: there is no table `{join.table}`"
    other = published[join.table]
    columns = other.outputs()
    missing = {join.by, *join.columns} - set(columns.values())
    if missing:
        return f"join: {join.table} has no column `{min(missing)}`"
    if join.by not in available or join.by != columns[other.key]:
        return f"join.by: must be `{columns[other.key]}`, the key of {join.table}, and a column of the source"
    clash = set(join.columns) & available
    return f"join.columns: the source has a column `{min(clash)}` already" if clash else None

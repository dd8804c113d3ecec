"""The packaged users at fixed levels of generalization: what other ways of doing it can be compared with."""

from typing import Any

from privacy_platform.policy.load import load_policies
from privacy_platform.policy.model import DatasetPolicy

__all__ = ["fixed_users"]

_TECHNIQUES: dict[str, Any] = {
    "age": {"bucket": {"edges": [0, 18, 25, 35, 45, 55, 65]}},
    "gender": "keep",
    "city": {"generalize": {"hierarchy": "city", "level": "region"}},
    "state": "keep",
    "zip_code": {"mask": {"kind": "zip", "keep_first": 3}},
    "created_at": {"truncate": {"unit": "day"}},
}


def fixed_users() -> DatasetPolicy:
    """The packaged policy without its privacy model, and with one level a column.

    No peer searches for levels or proves k, l and t; `benchmarks.anonymous_release` says what that costs.
    """
    document = load_policies().datasets["users"].model_dump(mode="json", by_alias=True)
    document["privacy_model"] = None
    for name, technique in _TECHNIQUES.items():
        document["fields"][name]["technique"] = technique
    return DatasetPolicy.model_validate(document)

"""What all models of policy files share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

__all__ = ["Name", "PolicyModel"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]


class PolicyModel(BaseModel):
    """A part of a policy file: frozen, with no settings but its own, and errors that show no values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

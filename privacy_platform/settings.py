"""Where the platform keeps its state: the only module that reads the environment for paths.

Everything the embedded platform writes lies under one directory, `home()`, so that removing it removes all.
"""

import os
from pathlib import Path

HOME_VARIABLE = "PRIVACY_PLATFORM_HOME"
LANDING_VARIABLE = "PRIVACY_PLATFORM_LANDING"
POLICIES_VARIABLE = "PRIVACY_PLATFORM_POLICIES"


def project_root() -> Path:
    """The checkout this package runs from, or the working directory when it is installed as a wheel."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def home() -> Path:
    """The state directory: `PRIVACY_PLATFORM_HOME`, by default `.local` in the project."""
    configured = os.environ.get(HOME_VARIABLE)
    return Path(configured).expanduser().resolve() if configured else project_root() / ".local"


def landing() -> Path:
    """The landing folder watched for data files: `PRIVACY_PLATFORM_LANDING`, by default `landing` in home."""
    configured = os.environ.get(LANDING_VARIABLE)
    return Path(configured).expanduser().resolve() if configured else home() / "landing"


def user_policies() -> Path | None:
    """The user's own policy folder, `PRIVACY_PLATFORM_POLICIES`, or None."""
    configured = os.environ.get(POLICIES_VARIABLE)
    return Path(configured).expanduser().resolve() if configured else None

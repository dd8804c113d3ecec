"""The Dagster instance of this machine: its home, and the environment that points Dagster's own tools at it."""

import os
import warnings
from pathlib import Path

import dagster as dg
import yaml

from privacy_platform import settings
from privacy_platform.engine.session import prepare_environment
from privacy_platform.warehouse.connection import dagster_url
from privacy_platform.warehouse.migrations import ensure_warehouse

URL_VARIABLE = "DAGSTER_POSTGRES_URL"
_STATEMENT_MILLISECONDS = 60_000
_RECYCLE_SECONDS = 3_600
_STORAGE = {"storage": {"postgres": {"postgres_url": {"env": URL_VARIABLE}}}}


def instance_environment() -> dict[str, str]:
    """What a shell needs for `dagster …` to work on this home; starts the warehouse and writes the instance's home.

    `DAGSTER_HOME` and `DAGSTER_POSTGRES_URL` that are set already are respected.
    """
    ensure_warehouse()
    home = Path(os.environ.get("DAGSTER_HOME") or _write_home())
    return {
        "DAGSTER_HOME": str(home),
        # `dagster asset materialize` reads neither pyproject.toml nor workspace.yaml.
        "DAGSTER_MODULE_NAME": "privacy_platform.definitions",
        URL_VARIABLE: os.environ.get(URL_VARIABLE) or dagster_url(),
        settings.HOME_VARIABLE: str(settings.home()),
        settings.LANDING_VARIABLE: str(settings.landing()),
    }


def _write_home() -> Path:
    home = settings.home() / "dagster"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    template = settings.project_root() / "dagster.yaml"
    common = yaml.safe_load(template.read_text(encoding="utf-8")) if template.is_file() else {}
    text = yaml.safe_dump({**_STORAGE, **common}, sort_keys=False)
    target, partial = home / "dagster.yaml", home / f".dagster.yaml.{os.getpid()}"
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
    return home


def open_instance() -> dg.DagsterInstance:
    """The instance, with the process's environment set for it."""
    os.environ.update(instance_environment())
    prepare_environment()
    # Single-run backfills are marked beta; what we use of them is tested here.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)
    instance = dg.DagsterInstance.get()
    # As the web server does: Dagster would connect anew for each event of a run, which takes longer than to store it.
    instance.optimize_for_webserver(
        statement_timeout=_STATEMENT_MILLISECONDS, pool_recycle=_RECYCLE_SECONDS, max_overflow=20
    )
    return instance

"""Names an MLflow store in one SQLite file, and keeps MLflow's environment variables out of it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


def uri(database: Path) -> str:
    """Return the URI of the store in the file ``database``; a `?`, `#`, `%` or space in its path is quoted.

    The driver is named because MLflow makes the parent folder of a plain `sqlite:///` URI without undoing the quotes: it
    would leave a folder `a%20b` beside `a b`.
    """
    return f"sqlite+pysqlite:///{quote(str(database))}"


def database(store_uri: str) -> Path | None:
    """Return the file of a store's URI, or None for a store that is not in SQLite."""
    parts = urlsplit(store_uri)
    if not parts.scheme.startswith("sqlite"):
        return None
    # Three slashes: the third separates the empty host from the path, which may be absolute or relative.
    return Path(unquote(parts.path.removeprefix("/")))


def forget_environment(kept: Collection[str] = ()) -> None:
    """Remove every variable of MLflow's from this process's environment, but for those ``kept``.

    A left-over MLFLOW_RUN_ID, for example, would make the next training write into that run.
    """
    for name in [n for n in os.environ if n.startswith(("MLFLOW_", "_MLFLOW_"))]:
        if name not in kept:
            del os.environ[name]
    # MLflow reports what it is used for to its makers; a run has nothing to tell them.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

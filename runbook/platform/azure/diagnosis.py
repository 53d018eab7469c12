"""Turns whatever the SDK raised into one PlatformError that says what it means and what to do next."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from runbook.errors import NotFound, PlatformError
from runbook.platform.azure.error_rules import PHASES, RULES, Rule

# A resource's address: .../providers/Microsoft.X/type/name/type/name.
_ADDRESS = re.compile(r"/providers/Microsoft\.\w+/(?!.*/providers/Microsoft\.)([^?]+)", re.IGNORECASE)
# How the command line shows a resource of this type; the names fill the gaps, from the outermost one on.
_LOOKS = {
    "computes": ("the compute {}", "az ml compute show --name {}"),
    "onlineEndpoints": ("the endpoint {}", "az ml online-endpoint show --name {}"),
    "deployments": (
        "the deployment {1} of the endpoint {0}",
        "az ml online-deployment show --endpoint-name {} --name {}",
    ),
    "models": ("the model {}", "az ml model list --name {}"),
    "models/versions": ("version {1} of the model {0}", "az ml model show --name {} --version {}"),
    "environments/versions": ("version {1} of the environment {0}", "az ml environment show --name {} --version {}"),
    "codes/versions": ("the uploaded code {0}", "az ml job list --max-results 5"),
    "jobs": ("the job {}", "az ml job show --name {}"),
    "managedClusters": ("the AKS cluster {}", "az aks show --name {}"),
    "workspaces": ("the workspace {}", "az ml workspace show --name {}"),
}


@contextmanager
def explaining(what: str, log: Callable[[], str] = str) -> Iterator[None]:
    """Turn whatever the SDK raises inside into a PlatformError that says what failed, what it means and what to do.

    ``log`` fetches what the service itself has to say; a 404 becomes NotFound. Contract of the error codes:
    https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints.
    """
    from azure.core.exceptions import AzureError

    try:
        # The SDK prints a dot per poll and colour codes per upload; in a notebook they would land in the report.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    except AzureError as error:
        status = _status(error)
        raise (NotFound if status == 404 else PlatformError)(explain(what, error), _log(log)) from error


def explain(what: str, error: BaseException) -> str:
    """Return the sentence for one SDK error: what failed, the service's words, the meaning, the next command."""
    status, text = _status(error), f"{type(error).__name__} {_code(error)} {error}"
    rule = next(r for r in RULES if r.fits(status, f"{text} {what}"))
    named, look = _object(what, error)
    said = " ".join(str(getattr(error, "message", None) or error).split())[:600]
    head = f"{what} failed: {_code(error) or type(error).__name__}{f' ({status})' if status else ''}: {said}"
    wait = _retry_after(error)
    meaning = f"That means: {rule.meaning}.\nNext: {rule.next_command}."
    meaning = meaning.replace("{object}", named).replace("{look}", look)
    return head + (f"\nAzure asks to wait {wait} s." if wait else "") + f"\n{meaning}"


def known(text: str) -> Rule | None:
    """Return the rule that recognises words of a run's error or of its log, or None when only a general one would fit."""
    return next((r for r in PHASES if r.fits(0, text)), None)


def _object(what: str, error: Any) -> tuple[str, str]:
    """Return the resource that the refused request was about, and the command that shows it."""
    address = str(getattr(getattr(getattr(error, "response", None), "request", None), "url", ""))
    found = _ADDRESS.search(address)
    parts = found[1].strip("/").split("/") if found else []
    if parts[:1] == ["workspaces"] and len(parts) > 2:
        parts = parts[2:]
    types, names = parts[0::2], parts[1::2]
    shown = _LOOKS.get("/".join(types)) or _LOOKS.get(types[-1] if types else "")
    if shown is None or len(names) < max(1, shown[1].count("{}")):
        return f"what this was about ({what})", "az ml workspace show --name WORKSPACE"
    return shown[0].format(*names), shown[1].format(*names)


def _log(fetch: Callable[[], str]) -> str:
    # The log is a help; that it cannot be had must not hide why it was wanted.
    try:
        return fetch()
    except Exception as error:
        return f"(the service's log could not be read: {error})"


def _status(error: Any) -> int:
    return int(getattr(error, "status_code", None) or 0)


def _code(error: Any) -> str:
    return str(getattr(getattr(error, "error", None), "code", None) or "")


def _retry_after(error: Any) -> str:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return str(headers.get("Retry-After", ""))

"""What an Azure error means and what to do next: one PlatformError for whatever the SDK raised."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from runbook import hint
from runbook.errors import NotFound, PlatformError


@dataclass(frozen=True)
class Rule:
    """One diagnosis: which errors it fits (HTTP status, or words in code and message), what it means, what to do."""

    status: tuple[int, ...]
    words: str
    meaning: str
    next_command: str

    def fits(self, status: int, text: str) -> bool:
        """Whether status and words both agree; an empty wish agrees with everything."""
        return (not self.status or status in self.status) and bool(re.search(self.words, text, re.IGNORECASE))


# The first that fits wins, so what is special stands above what is general.
RULES = (
    Rule(
        (),
        r"AADSTS700024|AADSTS700082|ExpiredAuthenticationToken|token.{0,20}expired",
        "the sign-in has expired",
        "sign in again: az login   (in a pipeline: map SYSTEM_ACCESSTOKEN, so that the token is renewed)",
    ),
    Rule(
        (403,),
        r"AuthenticationFailed|Signature|AuthorizationPermissionMismatch",
        "storage refused the signed address: it has expired, or the clock of this machine is wrong",
        "check the clock (timedatectl), then run the step again: it asks for a fresh address",
    ),
    Rule(
        (403,),
        "",
        "this identity is not permitted to do that",
        "grant the role that docs/azure.md names for this step: "
        'az role assignment create --role "AzureML Data Scientist" --assignee CLIENT_ID --scope WORKSPACE_ID',
    ),
    Rule(
        (),
        r"quota|OutOfCapacity|AllocationFailed|SkuNotAvailable",
        "the subscription's quota or the region's capacity does not suffice",
        "see what is left: az vm list-usage --location REGION --output table",
    ),
    Rule(
        (400, 409),
        r"already (in use|taken|exists)|NameUnavailable|EndpointAlreadyExists|NameNotAvailable",
        "the name is taken, perhaps by somebody else in the region",
        "choose another name in deployment/STAGE/endpoint.yml",
    ),
    Rule(
        (409,),
        "",
        "another operation on it is going on (an endpoint that is updating accepts no other change)",
        "wait until it is done, then run the step again: az ml online-endpoint show --name NAME -o table",
    ),
    Rule(
        (429,),
        "",
        "Azure asks for fewer requests, and did so again after the retries",
        "wait the seconds it names, then run the step again",
    ),
    Rule((401,), "", "Azure does not accept the sign-in", "sign in: az login --tenant TENANT_ID"),
    Rule((), r"CredentialUnavailable|ClientAuthentication|az login", "nobody is signed in", "sign in: az login"),
    Rule(
        (),
        r"ServiceRequestError|ServiceResponseError|ConnectionError|ServiceRequestTimeout|ServiceResponseTimeout",
        "Azure did not answer",
        "check network, proxy and DNS: az account show",
    ),
    Rule(
        (),
        r"ResourceNotReady|crashed|UserScript|ImagePull",
        "the deployment's container did not come up, most often because init of score.py failed",
        f"read the log, then try the same files here: {hint.line('step', '60_deploy', '--target', 'local', '--stage', 'dev')}",
    ),
    Rule((500, 502, 503, 504), "", "Azure failed on its side, after the retries too", "run the step again"),
    Rule(
        (),
        r"OperationFail|Failed",
        "the operation was accepted and then failed",
        "read the log, mend, run the step again",
    ),
)


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
    rule = next((r for r in RULES if r.fits(status, text)), None)
    said = " ".join(str(getattr(error, "message", None) or error).split())[:600]
    head = f"{what} failed: {_code(error) or type(error).__name__}{f' ({status})' if status else ''}: {said}"
    wait = _retry_after(error)
    meaning = f"\nThat means: {rule.meaning}.\nNext: {rule.next_command}." if rule else ""
    return head + (f"\nAzure asks to wait {wait} s." if wait else "") + meaning


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

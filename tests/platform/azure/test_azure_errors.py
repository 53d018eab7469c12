"""What a reader learns from an error of Azure: its meaning, the object it is about, and the next command."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from azure.core.exceptions import HttpResponseError
from published_errors import AKS, FURTHER, SURVEYED

from runbook.platform.azure.diagnosis import explain

GROUP = "https://management.azure.com/subscriptions/0/resourceGroups/g"


def failure(status: int, code: str, message: str, address: str) -> HttpResponseError:
    """Return the SDK's own error for an answer of the service; the answer has only what the SDK reads of it."""
    text = json.dumps({"error": {"code": code, "message": message}})
    request = SimpleNamespace(url=f"{GROUP}{address}?api-version=2024-10-01", method="PUT")
    answer = SimpleNamespace(
        status_code=status, reason="", headers={}, request=request, text=lambda encoding=None: text
    )
    return HttpResponseError(response=answer)


@pytest.mark.parametrize(
    ("status", "code", "message", "address", "meaning", "command"),
    [pytest.param(*row, id=f"{row[1]}-{number}") for number, row in enumerate([*SURVEYED, *FURTHER])],
)
def test_a_published_error_gets_its_meaning_and_a_next_command(
    status: int, code: str, message: str, address: str, meaning: str, command: str
) -> None:
    said = explain("creating it", failure(status, code, message, address))
    means = said.split("That means: ")[1].split("\nNext: ")
    assert meaning in means[0]
    assert command in means[1]


def test_an_error_that_is_not_known_still_gets_a_next_command_about_its_object() -> None:
    said = explain("creating it", failure(400, "NeverHeardOf", "Something new.", AKS))
    assert "Something new." in said
    assert "Next: see the resource: az aks show --name titanic-aks" in said


def test_a_failed_attach_without_a_reason_names_the_roles_of_the_workspace() -> None:
    said = explain("attaching titanic-aks to the workspace", failure(500, "InternalServerError", "Internal error.", ""))
    assert "Kubernetes Extension Contributor" in said


def test_the_object_of_an_extension_is_the_extension_and_not_the_cluster_that_carries_it() -> None:
    address = f"{AKS}/providers/Microsoft.KubernetesConfiguration/extensions/azureml"
    assert "az aks show" not in explain("installing it", failure(409, "Conflict", "A conflict.", address))

"""Chooses the Azure credential for the current environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

# Environment variables whose value is a secret, wherever they come from.
SECRET_VARIABLES = ("AZURE_CLIENT_SECRET", "SYSTEM_ACCESSTOKEN", "MLFLOW_TRACKING_TOKEN")


def kind(environment: Mapping[str, str] = os.environ) -> str:
    """Return which credential would be used: pipeline, client secret, or az login with managed identity behind it."""
    named = _client(environment) and _tenant(environment)
    if named and environment.get("SYSTEM_ACCESSTOKEN") and _connection(environment):
        return "Azure Pipelines service connection"
    if named and environment.get("AZURE_CLIENT_SECRET"):
        return "client secret"
    return "az login, else managed identity"


def credential(environment: Mapping[str, str] = os.environ) -> TokenCredential:
    """Return the credential of ``kind``; nothing is sent before the first request needs a token.

    In a pipeline a fresh assertion is fetched for every token, because the one a task is started with lapses after some
    ten minutes, long before a training or a deployment is done.
    """
    from azure.identity import (
        AzureCliCredential,
        AzurePipelinesCredential,
        ChainedTokenCredential,
        ClientSecretCredential,
        ManagedIdentityCredential,
    )

    match kind(environment):
        case "Azure Pipelines service connection":
            return AzurePipelinesCredential(
                tenant_id=_tenant(environment),
                client_id=_client(environment),
                service_connection_id=_connection(environment),
                system_access_token=environment["SYSTEM_ACCESSTOKEN"],
            )
        case "client secret":
            return ClientSecretCredential(
                tenant_id=_tenant(environment),
                client_id=_client(environment),
                client_secret=environment["AZURE_CLIENT_SECRET"],
            )
        case _:
            # az first: on a laptop the probe for a managed identity would cost seconds, and find nothing.
            identity = ManagedIdentityCredential(client_id=_client(environment) or None)
            return ChainedTokenCredential(AzureCliCredential(process_timeout=30), identity)


def secrets(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the secret values that the environment carries."""
    return [environment[name] for name in SECRET_VARIABLES if environment.get(name)]


def _tenant(environment: Mapping[str, str]) -> str:
    return environment.get("AZURESUBSCRIPTION_TENANT_ID") or environment.get("AZURE_TENANT_ID", "")


def _client(environment: Mapping[str, str]) -> str:
    return environment.get("AZURESUBSCRIPTION_CLIENT_ID") or environment.get("AZURE_CLIENT_ID", "")


def _connection(environment: Mapping[str, str]) -> str:
    # Azure DevOps names the first one itself inside its Azure tasks; the second is for plain script tasks.
    names = ("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "AZURE_SERVICE_CONNECTION_ID")
    return next((environment[name] for name in names if environment.get(name)), "")

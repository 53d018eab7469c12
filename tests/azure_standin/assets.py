"""The workspace and what lies in it: datastores, code, environments, data, models."""

from __future__ import annotations

import re
import uuid
from typing import Any

from azure_standin import arm
from azure_standin.azurite import ACCOUNT, Azurite
from azure_standin.state import GROUP_PATH, LOCATION, TENANT, WORKSPACE, WORKSPACE_PATH, State
from azure_standin.wire import Request, Response, error

DATA_PLANE = f"{LOCATION}.api.azureml.ms"
BLOB_STORE, ARTIFACT_STORE = "azureml-blobstore-11112222", "azureml"
STORES = {"workspaceblobstore": BLOB_STORE, "workspaceartifactstore": ARTIFACT_STORE}
_BLOB_HOST = f"{ACCOUNT}.blob.core.windows.net"


def found_workspace(state: State, blobs: Azurite) -> None:
    """Lay the workspace and its two datastores, as Azure does when a workspace is made."""
    providers = f"{GROUP_PATH}/providers"
    state.put(
        WORKSPACE_PATH,
        {
            "location": LOCATION,
            "identity": {"type": "SystemAssigned", "principalId": str(uuid.uuid4()), "tenantId": TENANT},
            "tags": {},
            "properties": {
                "friendlyName": WORKSPACE,
                "storageAccount": f"{providers}/Microsoft.Storage/storageAccounts/{ACCOUNT}",
                "keyVault": f"{providers}/Microsoft.KeyVault/vaults/titanic-vault",
                "applicationInsights": f"{providers}/Microsoft.Insights/components/titanic-insights",
                "discoveryUrl": f"https://{DATA_PLANE}/discovery",
                "mlFlowTrackingUri": f"azureml://{DATA_PLANE}/mlflow/v1.0{WORKSPACE_PATH}",
                "workspaceId": str(uuid.uuid4()),
                "provisioningState": "Succeeded",
            },
        },
    )
    for name, container in STORES.items():
        blobs.create_container(container)
        state.put(
            f"{WORKSPACE_PATH}/datastores/{name}",
            {
                "properties": {
                    "datastoreType": "AzureBlob",
                    "accountName": ACCOUNT,
                    "containerName": container,
                    "endpoint": "core.windows.net",
                    "protocol": "https",
                    "isDefault": name == "workspaceblobstore",
                    "credentials": {"credentialsType": "AccountKey"},
                    "tags": {},
                }
            },
        )


def datastores(state: State, request: Request) -> Response:
    """List the datastores; the client asks for the default one this way."""
    found = state.below(request.path)
    if request.query.get("isDefault", "").lower() == "true":
        found = [d for d in found if d["properties"]["isDefault"]]
    return Response(200, {"value": found})


def secrets(state: State, blobs: Azurite, request: Request) -> Response:
    """Answer a signature for the datastore's container, as a workspace with expirable secrets does."""
    store = state.get(request.path.rsplit("/", 1)[0])
    if store is None:
        return arm.not_found(request.path)
    token = blobs.container_sas(store["properties"]["containerName"], _hours(state))
    return Response(200, {"secretsType": "Sas", "sasToken": token})


def pending_upload(state: State, blobs: Azurite, request: Request) -> Response:
    """Make a container for one upload and answer its signed address."""
    container = f"upload-{uuid.uuid4()}"
    blobs.create_container(container)
    address = f"https://{_BLOB_HOST}/{container}"
    signed = f"{address}?{blobs.container_sas(container, _hours(state))}"
    return Response(
        200,
        {
            "pendingUploadType": "TemporaryBlobReference",
            "pendingUploadId": str(uuid.uuid4()),
            "blobReferenceForConsumption": {
                "blobUri": address,
                "storageAccountArmId": f"{GROUP_PATH}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
                "credential": {"credentialType": "SAS", "sasUri": signed},
            },
        },
    )


def code_versions(state: State, request: Request) -> Response:
    """List the code snapshots with the hash that the client computed."""
    wanted = request.query.get("hash")
    known = [r for k, r in state.resources.items() if "/codes/" in k and "/versions/" in k]
    return Response(
        200, {"value": [r for r in known if r["properties"].get("properties", {}).get("hash_sha256") == wanted]}
    )


def put_version(state: State, request: Request) -> Response:
    """Keep one version of an asset; a version's content never changes, its tags and description may."""
    body, present = request.json, state.get(request.path)
    container, version = request.path.split("/versions/")
    properties = body["properties"]
    if "modelUri" in properties:
        properties["modelUri"] = _resolve_model(state, properties["modelUri"])
        properties.setdefault("flavors", {})
    for fixed in ("modelUri", "codeUri", "dataUri"):
        if present and present["properties"].get(fixed) != properties.get(fixed):
            return error(400, "UserError", f"The content of {request.path} cannot be changed.")
    if "codes/" in container and "hash_version" in properties.get("properties", {}):
        # The SDK sends a number; what Azure shows afterwards is text, as its type says.
        properties["properties"]["hash_version"] = str(properties["properties"]["hash_version"])
    if "environments/" in container:
        properties["environmentType"] = "UserCreated"
    _keep_container(state, container, version)
    shown = state.put(request.path, {"properties": {"isArchived": False, **properties}})
    return Response(200 if present else 201, shown)


def model_versions(state: State, request: Request) -> Response:
    """List a model's versions; of an unknown model there are none, which Azure tells as 404."""
    if not state.below(request.path):
        return error(404, "UserError", "ModelNotFound: The model was not found.")
    return arm.listing(state, request)


def _keep_container(state: State, path: str, version: str) -> None:
    versions = [r["name"] for r in state.below(f"{path}/versions")] + [version]
    numbers = [int(v) for v in versions if v.isdigit()]
    following = str(max(numbers, default=0) + 1)
    state.put(path, {"properties": {"isArchived": False, "latestVersion": versions[-1], "nextVersion": following}})


def _resolve_model(state: State, uri: str) -> str:
    job = re.fullmatch(r"azureml://jobs/([^/]+)/outputs/artifacts/paths/(.+)", uri)
    if not job:
        return uri
    path = f"ExperimentRun/dcid.{job[1]}/{job[2].rstrip('/')}"
    return f"azureml:/{WORKSPACE_PATH}/datastores/workspaceartifactstore/paths/{path}"


def locate(uri: str) -> tuple[str, str]:
    """Return container and prefix of what an asset's address means."""
    store = re.search(r"datastores/([^/]+)/paths/(.+)$", uri)
    if store:
        return STORES[store[1]], store[2].rstrip("/")
    container, _, prefix = uri.split("?")[0].split(f"{_BLOB_HOST}/", 1)[1].partition("/")
    return container, prefix


def _hours(state: State) -> float:
    return -1.0 if state.faults.signatures_expired else 1.0


def describe(asset: dict[str, Any]) -> str:
    """Return an asset as NAME:VERSION."""
    parts = asset["id"].split("/")
    return f"{parts[-3]}:{parts[-1]}"

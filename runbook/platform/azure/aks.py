"""The bodies of the prod cluster: what AKS, the AzureML extension and the attached compute are asked to be."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

from runbook.errors import PlatformError
from runbook.platform.azure.workspace import sdk

EXTENSION_TYPE = "Microsoft.AzureML.Kubernetes"
# Where the certificate comes from when ssl_enabled is true; a pipeline maps them from Key Vault.
CERTIFICATE, PRIVATE_KEY = "RUNBOOK_TLS_CERTIFICATE_PEM", "RUNBOOK_TLS_PRIVATE_KEY_PEM"


def cluster(doc: Mapping[str, Any], location: str) -> Any:
    """Return the AKS cluster of cluster.yml: a managed identity, local accounts on, both expected by the extension."""
    from azure.mgmt.containerservice.models import ManagedCluster

    pool = {
        "name": "system",
        "mode": "System",
        "count": doc["node_count"],
        "vmSize": doc["node_size"],
        "osType": "Linux",
    }
    properties = {
        "dnsPrefix": doc["name"],
        "agentPoolProfiles": [pool],
        "disableLocalAccounts": False,
        "enableRBAC": True,
        **({"kubernetesVersion": doc["kubernetes_version"]} if doc["kubernetes_version"] else {}),
    }
    # The Standard tier is the one with an uptime guarantee; it costs about 0.10 USD an hour on top of the nodes.
    return ManagedCluster(
        {
            "location": location,
            "identity": {"type": "SystemAssigned"},
            "sku": {"name": "Base", "tier": "Standard"},
            "tags": dict(doc["tags"]),
            "properties": properties,
        }
    )


def extension(doc: Mapping[str, Any], location: str, cluster_id: str) -> Any:
    """Return the AzureML extension for inference.

    The settings from ``clusterId`` on are what `az k8s-extension create` adds by itself; over the SDK they are ours to
    send (Azure/azure-cli-extensions, k8s-extension, AzureMLKubernetes).
    """
    from azure.mgmt.kubernetesconfiguration.v2023_05_01.models import Extension, Identity, Scope, ScopeCluster

    high = bool(doc["extension"]["inference_router_ha"])
    settings = {
        "enableTraining": "false",
        "enableInference": "true",
        "inferenceRouterServiceType": doc["extension"]["inference_router_service_type"],
        "inferenceRouterHA": str(high).lower(),
        "allowInsecureConnections": str(not doc["ssl_enabled"]).lower(),
        "clusterId": cluster_id,
        "cluster_name": cluster_id,
        "cluster_name_friendly": doc["name"],
        "clusterPurpose": "FastProd" if high else "DevTest",
        "prometheus.prometheusSpec.externalLabels.cluster_name": cluster_id,
        "domain": f"{location}.cloudapp.azure.com",
        "location": location,
        "jobSchedulerLocation": location,
        "relayserver.enabled": "false",
        "servicebus.enabled": "false",
        "nginxIngress.enabled": "false",
    }
    if doc["ssl_enabled"]:
        settings["sslCname"] = doc["ssl_cname"]
    return Extension(
        extension_type=EXTENSION_TYPE,
        identity=Identity(type="SystemAssigned"),
        auto_upgrade_minor_version=True,
        release_train="stable",
        scope=Scope(cluster=ScopeCluster(release_namespace="azureml")),
        configuration_settings=settings,
        configuration_protected_settings=_certificate() if doc["ssl_enabled"] else {},
    )


def compute(doc: Mapping[str, Any], cluster_id: str) -> Any:
    """Return the compute that attaches the cluster to the workspace."""
    return sdk().entities.KubernetesCompute(
        name=doc["name"],
        resource_id=cluster_id,
        namespace=doc["namespace"],
        identity=sdk().entities.IdentityConfiguration(type="system_assigned"),
        tags=dict(doc["tags"]),
    )


def _certificate() -> dict[str, str]:
    missing = [name for name in (CERTIFICATE, PRIVATE_KEY) if not os.environ.get(name)]
    if missing:
        raise PlatformError(
            f"ssl_enabled is true and {', '.join(missing)} is not set: expected a certificate as PEM text."
        )
    encoded = {name: base64.b64encode(os.environ[name].encode()).decode() for name in (CERTIFICATE, PRIVATE_KEY)}
    return {"scoringFe.sslCert": encoded[CERTIFICATE], "scoringFe.sslKey": encoded[PRIVATE_KEY]}

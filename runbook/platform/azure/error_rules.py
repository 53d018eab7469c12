"""The errors that Azure is known to give: how each is recognised, what it means and which command helps.

The codes and words are those of Microsoft's troubleshooting pages and of public reports:
https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints,
https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-kubernetes-compute,
https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-kubernetes-extension,
https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runbook import hint


@dataclass(frozen=True)
class Rule:
    """One diagnosis: which errors it fits, what they mean, what to do.

    ``words`` is a pattern on code and message, ``status`` the HTTP statuses; an empty one fits every error. The texts may
    hold {object} (the resource that the error is about) and {look} (the command that shows it).
    """

    words: str
    meaning: str
    next_command: str
    status: tuple[int, ...] = ()

    def fits(self, status: int, text: str) -> bool:
        """Whether status and words both agree."""
        return (not self.status or status in self.status) and bool(
            re.search(self.words, text, re.IGNORECASE | re.DOTALL)
        )


_TRY_HERE = hint.line("step", "60_deploy", "--target", "local", "--stage", "dev")
_CLUSTER_ROLES = "Reader, Kubernetes Extension Contributor and Azure Kubernetes Service Cluster Admin Role"
_WHERE = "--resource-group GROUP --workspace-name WORKSPACE"
_EXTENSION = (
    "az k8s-extension show --name azureml --cluster-type managedClusters --cluster-name CLUSTER --resource-group GROUP"
)
_REATTACH = (
    "detach it and attach it again under the same name and namespace: "
    f"az ml compute detach --name NAME {_WHERE}, then run 50_create_cluster again"
)

_SIGN_IN = (
    Rule(
        r"AADSTS700024|AADSTS700082|ExpiredAuthenticationToken|token.{0,20}expired",
        "the sign-in has expired",
        "sign in again: az login   (in a pipeline: map SYSTEM_ACCESSTOKEN, so that the token is renewed)",
    ),
    Rule(
        r"AADSTS7000215|AADSTS7000222",
        "the client secret of the app registration is wrong or has expired",
        "make a new one and store it where the pipeline reads it: az ad app credential reset --id CLIENT_ID",
    ),
    Rule(
        r"AADSTS700213|AADSTS70021\b|AADSTS700211|AADSTS700212",
        "the app registration has no federated credential for this issuer, subject and audience",
        "compare them with what it has: az ad app federated-credential list --id CLIENT_ID",
    ),
    Rule(
        r"AADSTS700016|AADSTS90002",
        "the tenant does not know this application, or there is no such tenant",
        "check AZURE_TENANT_ID and AZURE_CLIENT_ID: az account show --query tenantId; az ad sp show --id CLIENT_ID",
    ),
    Rule(
        r"AADSTS50076|AADSTS50079|AADSTS53003|AADSTS50158",
        "the tenant asks for a second factor or refuses this device (conditional access)",
        "sign in with a browser: az login --tenant TENANT_ID",
    ),
)

_SUBSCRIPTION = (
    Rule(
        r"MissingSubscriptionRegistration|SubscriptionNotRegistered|NoRegisteredProviderFound|missing resource provider"
        r"|not registered to use namespace|isn't registered with Subscription",
        "the subscription is not registered for a resource provider that this needs, and the message may not name it",
        "register all that docs/azure.md lists, for example: az provider register --namespace Microsoft.PolicyInsights",
    ),
    Rule(
        r"ReadOnlyDisabledSubscription|SubscriptionNotFound|InvalidSubscriptionId|subscription .{0,60}(is disabled|not be found)",
        "the subscription does not exist, is disabled, or this sign-in does not see it",
        "check the id and the state: az account list --all --query '[].{name:name, id:id, state:state}' --output table",
    ),
    Rule(
        r"ResourceGroupNotFound",
        "there is no such resource group in this subscription",
        "check AZURE_RESOURCE_GROUP or params/azure.yml: az group list --output table",
    ),
    Rule(
        r"RequestDisallowedByPolicy|InvalidPolicyParameter|template function",
        "a policy of the subscription forbids it, and no role changes that",
        "read the policy's name in the message and ask its owner for an exemption, or change what it asks for: "
        "az policy assignment list --resource-group GROUP --output table",
    ),
    Rule(
        r"ScopeLocked",
        "a lock on the resource or its group forbids the change",
        "see the locks, and ask their owner: az lock list --resource-group GROUP --output table",
    ),
)

_STORAGE = (
    Rule(
        r"KeyBasedAuthenticationNotPermitted|Key based authentication is not permitted",
        "the workspace's storage account accepts no account keys, and the workspace still signs with them",
        "az ml workspace update --resource-group GROUP --name WORKSPACE --system-datastores-auth-mode identity, "
        "and give runner and compute the role Storage Blob Data Contributor on the storage account",
    ),
    Rule(
        r"AuthorizationPermissionMismatch",
        "this identity may not read or write blobs of the workspace's storage account",
        'az role assignment create --role "Storage Blob Data Contributor" --assignee CLIENT_ID --scope STORAGE_ACCOUNT_ID   '
        "(a new role may take an hour)",
    ),
    Rule(
        r"PublicNetworkAccess|public network access|This request is not authorized to perform this operation\."
        r"|denied by (the )?(network|firewall)|firewall rules",
        "a firewall refuses this machine's address: storage, registry or workspace take no requests from public networks",
        "run the step from inside the network (see docs/azure.md), or let this address in: "
        "az storage account network-rule add --account-name ACCOUNT --ip-address ADDRESS",
    ),
    Rule(
        r"AuthenticationFailed|Signature",
        "storage refused the signed address: it has expired, or the clock of this machine is wrong",
        "check the clock (timedatectl), then run the step again: it asks for a fresh address",
        (403,),
    ),
    Rule(
        r"datastore|InvalidAuthenticationInfo|NoAuthenticationInformation",
        "the workspace cannot read its datastore with the credential that it has stored; your own sign-in is not the cause",
        "if the storage keys were rotated: az ml workspace sync-keys --resource-group GROUP --name WORKSPACE; "
        "see the datastore: az ml datastore show --name workspaceblobstore " + _WHERE,
        (401, 403),
    ),
)

_IMAGE = (
    Rule(
        r"TasksOperationsNotAllowed",
        "this subscription may not run ACR Tasks (free credit may not), and Azure ML builds images with them",
        "build on the workspace's own compute: az ml workspace update --resource-group GROUP --name WORKSPACE "
        "--image-build-compute COMPUTE, or use a pay-as-you-go subscription",
    ),
    Rule(
        r"container registry authorization failure",
        "the workspace cannot sign in to its container registry: their keys differ, or a network lies between",
        "az ml workspace sync-keys --resource-group GROUP --name WORKSPACE, then run the step again",
    ),
    Rule(
        r"communicate with the workspace's container registry",
        "the container registry is private, and the image is built outside its network",
        "build inside: az ml workspace update --resource-group GROUP --name WORKSPACE --image-build-compute COMPUTE",
    ),
    Rule(
        r"image build.{0,80}(timed out|time ?out)",
        "the image was not built in time; it is large, or a package is resolved for a long time",
        "read the end of the build log, pin the versions in deployment/conda_dependencies.yml, run the step again",
    ),
    Rule(
        r"ImageBuildFail|image build failed|failed to build (the )?image|environment image build",
        "the image of the environment could not be built, most often because a package in the conda file cannot be had",
        "read the build log at the path in the message (studio, Outputs + logs, azureml-logs/20_image_build_log.txt), "
        "then mend deployment/conda_dependencies.yml or environment_setup/conda_dependencies.yml",
    ),
    Rule(
        r"ACRSecretError|ACRTokenExchangeFailed",
        "the cluster may not fetch from the container registry yet: a new role assignment takes a while to arrive",
        f"wait a minute, run the step again; if it stays: {_EXTENSION}",
    ),
    Rule(
        r"ACRAuthenticationChallengeFailed|GetAADTokenFailed",
        "the cluster does not reach the container registry or Microsoft Entra: proxy, firewall or private endpoint",
        "check the cluster's way out and the registry's public access: "
        "az acr show --name REGISTRY --query publicNetworkAccess",
    ),
    Rule(
        r"container image.{0,80}authorization|authorization error|incorrect role assignments?|AcrPull",
        "the endpoint's identity may not pull the image or read the workspace's storage",
        "grant it: az role assignment create --role AcrPull --assignee ENDPOINT_PRINCIPAL --scope REGISTRY_ID   "
        "(and Storage Blob Data Reader on the storage account)",
    ),
    Rule(
        r"ImagePull|ErrImagePull|download user container image",
        "the image could not be pulled: it is not in the registry, or the network to it is closed",
        "see what is there: az acr repository list --name REGISTRY --output table",
    ),
    Rule(
        r"download user model",
        "the model's files could not be read: they are gone from the storage account, or the identity may not read them",
        f"az ml model show --name NAME --version VERSION {_WHERE}; az ml online-deployment get-logs --endpoint-name ENDPOINT "
        f"--name NAME --container storage-initializer {_WHERE}",
    ),
)

_CAPACITY = (
    Rule(
        r"RoleAssignmentLimitExceeded|role assignment (limit|quota)",
        "the subscription holds as many role assignments as it may",
        "delete some that are no longer used: az role assignment list --all --output table",
    ),
    Rule(
        r"Kubernetes unschedulable|PodUnschedulable|InsufficientClusterResource",
        "no node of the cluster has room for the replica",
        "delete a deployment that is no longer used, or raise node_count in environment_setup/cluster.yml; "
        "see the nodes: az aks show --name CLUSTER --resource-group GROUP --query agentPoolProfiles",
    ),
    Rule(
        r"PodOutOfMemory|OOMKilled|out of memory",
        "the container needs more memory than its limit",
        "raise resources.limits.memory (or instance_type) in deployment/STAGE/deployment.yml, run 60_deploy again",
    ),
    Rule(
        r"K8sVersionNotSupported|UnsupportedKubernetesVersion",
        "AKS does not offer this Kubernetes version in the region any more",
        "choose one that it offers for kubernetes_version in environment_setup/cluster.yml: "
        "az aks get-versions --location REGION --output table",
    ),
    Rule(
        r"VM size .{0,80}not allowed in your subscription|SkuNotAvailable|NotAvailableForSubscription"
        r"|requested (size|tier) for resource",
        "the subscription may not use this VM size in the region; this is no question of quota",
        "see which it may use, and name one in environment_setup or deployment: "
        "az vm list-skus --location REGION --resource-type virtualMachines --output table",
    ),
    Rule(
        r"not a supported VM size|InvalidVMSize|VM ?size .{0,60}not supported|instance ?type .{0,60}not supported",
        "Azure ML does not offer this VM size in the region",
        f"see which it offers: az ml compute list-sizes --location REGION {_WHERE}",
    ),
    Rule(
        r"InsufficientVCPUQuota|exceeding approved|exceeding quota limits of Core|Regional Cores|InsufficientQuota"
        r"|^.{0,40}\bQuotaExceeded",
        "the subscription's core quota does not suffice (AKS counts against it)",
        "see what is left: az vm list-usage --location REGION --output table",
    ),
    Rule(
        r"OutOfCapacity|AllocationFailed|AllocationFailure|OverconstrainedAllocation|capacity in (the|this) region",
        "the region has no such machine free at the moment; the quota is not the cause",
        "run the step again later, or name another VM size",
    ),
    Rule(
        r"OutOfQuota|CoreQuota|vCPU quota|quota",
        "Azure ML's own quota does not suffice (its compute and its endpoints count apart from the subscription's cores)",
        f"see what is left: az ml compute list-usage --location REGION {_WHERE} (studio: Quota), and ask for more there",
    ),
)

_CLUSTER = (
    Rule(
        r"extension.{0,20}not installed|ComputeNotAccessible|internal ?server.{0,400}attach",
        "the workspace's identity may not look at the cluster, or the AzureML extension is not there",
        f"give the workspace's principal the roles {_CLUSTER_ROLES} on the resource group (docs/azure.md), wait up to an "
        f"hour, run the step again; see the extension: {_EXTENSION}",
    ),
    Rule(
        r"still in use.{0,200}helm|reuse a name that is still in use|earlier operation for the helm chart"
        r"|helm chart is still in progress|another operation .{0,20}in progress.{0,80}helm",
        "an earlier installation of the extension still goes on in the cluster",
        f"wait up to an hour, then run the step again: {_EXTENSION}",
    ),
    Rule(
        r"namespace azureml because it'?s being terminated|namespace .{0,40}being terminated",
        "an uninstallation of the extension still goes on in the cluster",
        "wait until the namespace is gone, then run the step again: az aks command invoke --name CLUSTER "
        '--resource-group GROUP --command "kubectl get namespace"',
    ),
    Rule(
        r"ScoringFeUnhealthy|azureml-fe|ClusterServiceNotFound",
        "the router of the cluster (azureml-fe or its ingress) has no healthy replica",
        "az aks command invoke --name CLUSTER --resource-group GROUP "
        '--command "kubectl get pods --namespace azureml", then update the extension: '
        + _EXTENSION.replace(" show ", " update "),
    ),
    Rule(
        r"TokenRefreshFailed|RefreshExtensionIdentityNotSet",
        "the extension has no identity in the cluster",
        "install it again: " + _EXTENSION.replace(" show ", " delete ") + ", then run 50_create_cluster again",
    ),
    Rule(
        r"NamespaceNotFound",
        "the namespace of the attached compute is not in the cluster",
        "run 50_create_cluster again: it makes the namespace",
    ),
    Rule(
        r"KubernetesUnaccessible|InvalidCertificate",
        "the workspace does not trust the cluster's certificate any more",
        "az aks rotate-certs --name CLUSTER --resource-group GROUP, wait five hours, run the step again",
    ),
    Rule(
        r"ClusterNotReachable|GenericClusterError|connect to Kubernetes cluster",
        "the cluster does not answer: it is stopped, or takes only requests from certain addresses",
        "az aks show --name CLUSTER --resource-group GROUP --query powerState; if it is stopped: az aks start --name CLUSTER "
        "--resource-group GROUP",
    ),
    Rule(
        r"ClusterUnauthorized",
        "the access token for the cluster expired during the operation",
        "wait some minutes, then run the step again",
    ),
    Rule(
        r"GenericComputeError|ComputeNotFound|InvalidCompute|ClusterNotFound|InferencingClientCallFailed",
        "the workspace's record of the attached cluster no longer fits the cluster",
        _REATTACH,
    ),
    Rule(
        r"WorkspaceManagedNetworkNotReady",
        "the workspace's managed network is not provisioned yet",
        "az ml workspace provision-network --resource-group GROUP --name WORKSPACE, then run the step again",
    ),
)

_DEPLOYMENT = (
    Rule(
        r"SecretsInjectionError",
        "the endpoint's identity may not read a secret that the deployment refers to, or there is no such secret",
        "see the references in deployment/STAGE/deployment.yml and grant Key Vault Secrets User on the vault; "
        "a new role may take an hour",
    ),
    Rule(
        r"InvalidDeploymentSpec",
        "Azure does not accept the numbers of the deployment",
        "check instance_count and scale_settings in deployment/STAGE/deployment.yml: .venv/bin/runbook check",
    ),
    Rule(
        r"EndpointNotFound|ValidateScoringFailed",
        "the cluster does not know the endpoint, or its address cannot be reached",
        "run 60_deploy again: it makes the endpoint; see it: az ml online-endpoint show --name ENDPOINT " + _WHERE,
    ),
    Rule(
        r"already an endpoint with this name|already (in use|taken|exists).{0,60}endpoint|EndpointAlreadyExists"
        r"|exists an endpoint|NameUnavailable|NameNotAvailable",
        "the name is taken, perhaps by somebody else in the region",
        "choose another name in deployment/STAGE/endpoint.yml",
    ),
    Rule(
        r"already exists",
        "something else has this name already: {object}",
        "see what it is: {look}; then choose another name",
        (400, 409),
    ),
    Rule(
        r"in \w+ provisioning state|AnotherOperationInProgress|operation.{0,30}(is )?in progress|ResourceBusy",
        "another operation on it is going on: {object} accepts no other change until it is done",
        "wait until it is done, then run the step again: {look}",
    ),
    Rule(
        r"OperationCanceled|Operation was canceled",
        "another operation on the same resource went first",
        "wait a minute, then run the step again",
    ),
    Rule(
        r"ResourceNotReady|CrashLoopBackOff|crashed|UserScript|liveness probe|readiness probe",
        "the deployment's container did not come up, most often because init of score.py failed",
        f"read the log, then try the same files here: {_TRY_HERE}",
    ),
)

_GENERAL = (
    Rule(
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError",
        "the certificate that answered is not trusted here, most often that of a company's proxy",
        "name the company's certificates: export REQUESTS_CA_BUNDLE=/path/to/ca.pem",
    ),
    Rule(
        r"ProxyError|Proxy Authentication Required|Tunnel connection failed",
        "the proxy refuses the connection",
        "check HTTPS_PROXY and NO_PROXY: env | grep -i proxy",
    ),
    Rule(
        r"LinkedAuthorizationFailed|roleAssignments/write",
        "this identity may not use a resource that the request refers to, or may not grant roles",
        "read the action and the scope in the message and ask their owner; see what it has: "
        "az role assignment list --assignee CLIENT_ID --all --output table",
    ),
    Rule(
        "",
        "this identity is not permitted to do that",
        "grant the role that docs/azure.md names for this step: "
        'az role assignment create --role "AzureML Data Scientist" --assignee CLIENT_ID --scope WORKSPACE_ID   '
        "(a new role may take an hour)",
        (403,),
    ),
    Rule(
        "",
        "Azure refuses the change because of what {object} is now: it has other content, or an operation on it is going on",
        "see its state: {look}; when it is settled, run the step again",
        (409,),
    ),
    Rule(
        "",
        "Azure asks for fewer requests, and did so again after the retries",
        "wait the seconds it names, then run the step again",
        (429,),
    ),
    Rule("", "Azure does not accept the sign-in", "sign in: az login --tenant TENANT_ID", (401,)),
    Rule(r"CredentialUnavailable|ClientAuthentication|az login", "nobody is signed in", "sign in: az login"),
    Rule(
        r"ServiceRequestError|ServiceResponseError|ConnectionError|ServiceRequestTimeout|ServiceResponseTimeout",
        "Azure did not answer",
        "check network, proxy and DNS: az account show",
    ),
    Rule("", "Azure failed on its side, after the retries too", "run the step again", (500, 502, 503, 504)),
    Rule(
        r"OperationFail|Failed",
        "the operation was accepted and then failed",
        "read the log, mend, run the step again",
    ),
    Rule("", "Azure does not know {object}", "see what it says: {look}", (404,)),
    Rule(
        "",
        "Azure did not accept the request, and this runbook knows no more about it than the words above",
        "see the resource: {look}",
    ),
)

# The first that fits wins, so what is special stands above what is general.
RULES = (
    *_SIGN_IN, *_SUBSCRIPTION, *_STORAGE, *_IMAGE, *_CAPACITY, *_CLUSTER, *_DEPLOYMENT, *_GENERAL,
)  # fmt: skip
# What can go wrong before and around the program of a job; the program's own log may hold any word.
PHASES = (*_IMAGE[:5], *[r for r in _STORAGE if not r.status])

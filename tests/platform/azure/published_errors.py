"""Errors that Azure has published or that people have reported, with what a reader must learn from each.

A row: HTTP status, code, message, where it was met (an address of a resource, below the group), a word of the meaning, a
word of the next command. Status 200 is an operation that was accepted and then failed.
"""

from __future__ import annotations

ML = "/providers/Microsoft.MachineLearningServices/workspaces/ws"
AKS = "/providers/Microsoft.ContainerService/managedClusters/titanic-aks"
TRAIN, MODEL = f"{ML}/computes/titanic-train", f"{ML}/models/Titanic/versions/7"
ENDPOINT = f"{ML}/onlineEndpoints/titanic-dev"
BLUE, ATTACHED = f"{ENDPOINT}/deployments/blue", f"{ML}/computes/titanic-aks"
STORAGE = ""
NOT_ENOUGH = "Operation could not be completed as it results in exceeding approved Total Regional Cores quota."
FORBIDDEN = "Resource 'x' was disallowed by policy. Reasons: 'Local authentication methods are not allowed.'"
NO_KEYS = "Key based authentication is not permitted on this storage account."
NOT_ALLOWED = "The VM size of Standard_D4s_v5 is not allowed in your subscription in location 'eastus'."
UPDATING = "Cannot create a deployment in endpoint titanic-dev because it is in Updating provisioning state"
TAKEN = "There is already an endpoint with this name, Endpoint name needs to be unique within a region"
NOT_REGISTERED = "The subscription is not registered to use namespace 'Microsoft.ContainerService'."
FREE = "ACR Tasks requests for the registry x and 1234 are not permitted."
UNSCHEDULABLE = "Kubernetes unschedulable. Details:0/1 nodes are available: 1 Too many pods"
ML_CORES = "The specified subscription has a total vCPU quota of 0 and cannot accomodate for at least 1 requested node."
CRASHED = "User container has crashed or terminated. Please see troubleshooting guide"

# The errors that a survey of public sources tried first: most had no meaning, some misled.
SURVEYED = [
    (400, "BadRequest", NOT_ALLOWED, AKS, "may not use this VM size", "az vm list-skus"),
    (400, "K8sVersionNotSupported", "Version 1.27 is not supported in this region.", AKS, "Kubernetes", "get-versions"),
    (400, "InvalidPropertyValue", "STANDARD_D2S_V5 is not a supported VM size", TRAIN, "does not offer", "list-sizes"),
    (400, "BadRequest", "AzureML extension is not installed on cluster", ATTACHED, "workspace's identity", "k8s-extension"),
    (403, "SubscriptionNotRegistered", "Resource provider [N/A] isn't registered with Subscription [N/A].", ENDPOINT,
     "not registered", "az provider register"),
    (200, "BadArgument", "Startup task failed due to container image authorization error", BLUE, "pull", "AcrPull"),
    (200, "KubernetesCrashLoopBackOff", "Container is in CrashLoopBackOff", BLUE, "did not come up", "60_deploy"),
    (200, "PodUnschedulable", "Insufficient cpu", BLUE, "no node", "node_count"),
    (200, "ScoringFeUnhealthy", "scoring fe is unhealthy", ENDPOINT, "router of the cluster", "k8s-extension"),
    (403, "TasksOperationsNotAllowed", FREE, BLUE, "ACR Tasks", "--image-build-compute"),
    (400, "BadRequest", TAKEN, ENDPOINT, "name is taken", "endpoint.yml"),
    (400, "BadRequest", UPDATING, BLUE, "another operation", "online-deployment show"),
    (403, "RequestDisallowedByPolicy", FORBIDDEN, TRAIN, "policy", "az policy assignment"),
    (403, "KeyBasedAuthenticationNotPermitted", NO_KEYS, STORAGE, "no account keys", "--system-datastores-auth-mode identity"),
    (409, "UserError", "The specified asset is in conflict.", MODEL, "version 7 of the model Titanic",
     "az ml model show --name Titanic --version 7"),
    (400, "ClusterCoreQuotaReached", "The quota of cores is exceeded.", TRAIN, "own quota", "az ml compute list-usage"),
    (401, "InvalidAuthenticationInfo", "Unable to access datastore workspaceblobstore", TRAIN, "datastore", "sync-keys"),
    (200, "ImageBuildFailure", "the build log under the storage account 'x'", BLUE, "could not be built", "20_image_build_log"),
    (200, "ACRSecretError", "Failed to create the secret", BLUE, "role assignment", "wait a minute"),
    (401, "ExpiredAuthenticationToken", "The access token has expired.", TRAIN, "sign-in has expired", "az login"),
    (200, "OutOfQuota", "Not enough cluster CPU quota. You are currently using 14.", BLUE, "own quota", "list-usage"),
    (429, "TooManyRequests", "The request rate is too high.", TRAIN, "fewer requests", "wait"),
    (500, "InternalServerError", "Something went wrong.", TRAIN, "on its side", "run the step again"),
    (200, "ResourceNotReady", CRASHED, BLUE, "did not come up", "60_deploy"),
]  # fmt: skip
# From Microsoft's troubleshooting pages and from issues that people filed.
FURTHER = [
    (409, "MissingSubscriptionRegistration", NOT_REGISTERED, AKS, "not registered", "az provider register"),
    (403, "ReadOnlyDisabledSubscription", "The subscription is disabled.", TRAIN, "disabled", "az account list"),
    (404, "SubscriptionNotFound", "The subscription 'x' could not be found.", TRAIN, "does not exist", "az account list"),
    (404, "ResourceGroupNotFound", "Resource group 'x' could not be found.", TRAIN, "no such resource group", "az group list"),
    (409, "ScopeLocked", "The scope cannot perform delete operation because it is locked.", AKS, "lock", "az lock list"),
    (403, "LinkedAuthorizationFailed", "The client has permission, but not on the linked scope", AKS, "refers to",
     "az role assignment list"),
    (403, "AuthorizationPermissionMismatch", "This request is not authorized using this permission.", STORAGE, "blobs",
     "Storage Blob Data Contributor"),
    (403, "AuthorizationFailure", "This request is not authorized to perform this operation.", STORAGE, "firewall",
     "network-rule"),
    (403, "AuthenticationFailed", "Signature not valid in the specified time frame", STORAGE, "expired", "timedatectl"),
    (401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", "", "secret", "credential reset"),
    (401, "invalid_client", "AADSTS700213: No matching federated identity record found", "", "federated",
     "federated-credential list"),
    (400, "unauthorized_client", "AADSTS700016: Application with identifier 'x' was not found", "", "tenant", "AZURE_TENANT_ID"),
    (400, "interaction_required", "AADSTS50076: you must use multi-factor authentication", "", "second factor", "az login"),
    (200, "ImageBuildFailure", "container registry authorization failure", BLUE, "sign in to its", "sync-keys"),
    (200, "ImageBuildFailure", "failed to communicate with the workspace's container registry", BLUE, "private",
     "--image-build-compute"),
    (200, "ImageBuildFailure", "Image build timed out after 60 minutes", BLUE, "not built in time", "pin the versions"),
    (200, "ACRTokenExchangeFailed", "exchange of the token failed", BLUE, "role assignment", "wait a minute"),
    (200, "ACRAuthenticationChallengeFailed", "challenge failed", BLUE, "does not reach", "az acr show"),
    (200, "GetAADTokenFailed", "get token timed out", BLUE, "does not reach", "way out"),
    (200, "TokenRefreshFailed", "refresh failed", BLUE, "no identity", "k8s-extension delete"),
    (200, "ImagePullLoopBackOff", "Back-off pulling image", BLUE, "could not be pulled", "az acr"),
    (200, "BadArgument", "Unable to download user model", BLUE, "model's files", "storage-initializer"),
    (200, "OutOfQuota", UNSCHEDULABLE, BLUE, "no node", "node_count"),
    (200, "OutOfCapacity", "lack of Azure Machine Learning capacity in the region", BLUE, "no such machine", "later"),
    (409, "AllocationFailed", "We do not have sufficient capacity for the requested VM size", AKS, "no such machine", "later"),
    (409, "SkuNotAvailable", "The requested size for resource 'x' is currently not available in location 'eastus'", AKS,
     "may not use this VM size", "az vm list-skus"),
    (400, "ErrCode_InsufficientVCPUQuota", "Insufficient vcpu quota requested 12, remaining 0", AKS, "core quota",
     "az vm list-usage"),
    (409, "OperationNotAllowed", NOT_ENOUGH, AKS, "core quota", "az vm list-usage"),
    (400, "BadRequest", ML_CORES, TRAIN, "own quota", "az ml compute list-usage"),
    (400, "RoleAssignmentLimitExceeded", "The role assignment limit was reached", ENDPOINT, "role assignments", "delete some"),
    (200, "PodOutOfMemory", "memory limit", BLUE, "more memory", "resources.limits.memory"),
    (400, "KubernetesUnaccessible", "Kubernetes error: AuthenticationException. Reason: InvalidCertificate", BLUE,
     "certificate", "rotate-certs"),
    (400, "ClusterNotReachable", "The Kubernetes cluster is not reachable.", BLUE, "does not answer", "az aks start"),
    (400, "ClusterNotFound", "Cannot found Kubernetes cluster.", BLUE, "record of the attached cluster", "detach"),
    (400, "ComputeNotFound", "Cannot find Kubernetes compute.", BLUE, "record of the attached cluster", "detach"),
    (400, "GenericComputeError", "Failed to get compute information.", BLUE, "record of the attached cluster", "detach"),
    (400, "InferencingClientCallFailed", "call failed", BLUE, "record of the attached cluster", "detach"),
    (400, "ComputeNotAccessible", "The Kubernetes compute is not accessible.", BLUE, "workspace's identity", "roles"),
    (400, "ClusterServiceNotFound", "AzureML extension service not found in cluster.", BLUE, "router", "kubectl get pods"),
    (400, "ClusterUnauthorized", "Request to Kubernetes cluster unauthorized.", BLUE, "expired", "wait some minutes"),
    (400, "RefreshExtensionIdentityNotSet", "identity is not set", BLUE, "no identity", "k8s-extension delete"),
    (400, "NamespaceNotFound", "namespace was not found", ENDPOINT, "namespace", "50_create_cluster"),
    (400, "WorkspaceManagedNetworkNotReady", "network is not ready", BLUE, "managed network", "provision-network"),
    (409, "OperationCanceled", "Operation was canceled by another operation", BLUE, "went first", "wait a minute"),
    (400, "SecretsInjectionError", "could not be retrieved", BLUE, "secret", "Key Vault Secrets User"),
    (400, "InvalidDeploymentSpec", "instance count is invalid", BLUE, "numbers", "scale_settings"),
    (200, "UserScriptImportError", "No module named x", BLUE, "did not come up", "60_deploy"),
    (409, "Conflict", "A conflict.", TRAIN, "the compute titanic-train", "az ml compute show --name titanic-train"),
    (409, "Conflict", "A conflict.", AKS, "the AKS cluster titanic-aks", "az aks show --name titanic-aks"),
    (409, "ResourceBusy", "There is an operation in progress on the resource.", ENDPOINT, "the endpoint titanic-dev",
     "az ml online-endpoint show --name titanic-dev"),
]  # fmt: skip

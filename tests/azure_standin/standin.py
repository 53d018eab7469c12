"""The stand-in put together: which request goes to which room, how clients are aimed at it, what it has seen."""

from __future__ import annotations

import copy
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import certifi

from azure_standin import aks, arm, assets, certificates, computes, endpoints, entra, jobs, microsoft
from azure_standin.azurite import ACCOUNT, Azurite
from azure_standin.faults import Faults
from azure_standin.keeper import Keeper
from azure_standin.proxy import Proxy
from azure_standin.runner import Runner
from azure_standin.serving import Serving
from azure_standin.state import GROUP, SUBSCRIPTION, TENANT, WORKSPACE, WORKSPACE_PATH, Exchange, State
from azure_standin.wire import Request, Response, Server, error

BLOBS = f"{ACCOUNT}.blob.core.windows.net"
# Every host that the azure platform may speak to; anything else is refused and seen in the connection log.
EXPECTED = frozenset({"management.azure.com", entra.LOGIN, assets.DATA_PLANE, BLOBS})
CLIENT_SECRET = "a-secret-of-the-stand-in"
Handler = Callable[[Request], Response]


class StandIn:
    """A running stand-in on loopback; use it as a context manager, it ends every process it has started."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="azure-standin-"))
        self.keeper = Keeper(self.folder)
        self.state = State()
        self.violations: list[microsoft.Violation] = []
        self.checked = 0
        self.keys: dict[str, tuple[str, str]] = {}
        hosts = sorted({*EXPECTED, "127.0.0.1", "localhost"})
        self._certificates = certificates.make(self.folder / "certificates", hosts)
        self.blobs = Azurite(self._certificates, self.folder / "azurite.log", self.keeper.note)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificates.certificate, self._certificates.key)
        self._control = Server(self.handle, context)
        self._front = Server(self.score)
        self.proxy = Proxy(self._route)
        self.trust = self._trust()
        self.serving = Serving(self.state, self.blobs, self.folder, self.keeper)
        self.runner = Runner(self.state, self.blobs, self._aim(), self.folder, self.keeper)
        self._routes = self._table()
        assets.found_workspace(self.state, self.blobs)

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def faults(self) -> Faults:
        """What shall go wrong."""
        return self.state.faults

    def environment(self) -> dict[str, str]:
        """Return the variables that aim an unmodified client: a proxy, an authority to trust, and who signs in."""
        return {
            **self._aim(),
            "RUNBOOK_REHEARSAL": "1",
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": "00000000-1111-2222-3333-444444444444",
            "AZURE_CLIENT_SECRET": CLIENT_SECRET,
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZURE_RESOURCE_GROUP": GROUP,
            "AZURE_ML_WORKSPACE": WORKSPACE,
        }

    def reset(self) -> None:
        """Forget everything and behave well again: an empty workspace, no job, no replica, nothing logged."""
        self.runner.close()
        self.serving.close()
        self.faults.clear()
        for kept in (self.state.resources, self.state.operations, self.state.exchanges, self.state.figures, self.keys):
            kept.clear()
        self.violations.clear()
        self.proxy.connections.clear()
        self.checked = 0
        assets.found_workspace(self.state, self.blobs)

    def unexpected(self) -> set[str]:
        """Return the hosts that somebody asked for and nobody should have."""
        return self.proxy.hosts() - EXPECTED

    def close(self) -> None:
        """End servers, proxy and every process."""
        for part in (self.runner, self.serving, self.proxy, self._front, self._control, self.blobs, self.keeper):
            part.close()

    def handle(self, request: Request) -> Response:
        """Answer one request to the control or data plane, hold both bodies against Microsoft's types, and note it."""
        version = request.query.get("api-version", "")
        response = self.faults.answer(request)
        if response is None:
            response = self._refused(request, version) or self._dispatch(request)
            self._hold("response", request, version, response)
        sent = request.json if request.headers.get("content-type", "").startswith("application/json") else None
        answered = None if isinstance(response.body, bytes) else copy.deepcopy(response.body)
        self.state.exchanges.append(
            Exchange(
                request.method, request.host, request.path, version, copy.deepcopy(sent), response.status, answered
            )
        )
        return response

    def score(self, request: Request) -> Response:
        """Answer one scoring request: plain HTTP, because a Kubernetes endpoint without TLS speaks it."""
        found = re.fullmatch(r"/(?:managed|api/v1/endpoint)/([^/]+)(/score|/swagger\.json)", request.path)
        path = f"{WORKSPACE_PATH}/onlineEndpoints/{found[1]}" if found else ""
        endpoint = self.state.get(path)
        if not found or endpoint is None:
            return error(404, "EndpointNotFound", "There is no such endpoint.")
        return self.serving.answer(endpoint, self.keys[path.lower()], request, found[2])

    def sent(self, method: str, pattern: str) -> list[Exchange]:
        """Return the exchanges whose path matches."""
        return [e for e in self.state.exchanges if e.method == method and re.search(pattern, e.path)]

    def _aim(self) -> dict[str, str]:
        proxy = f"http://127.0.0.1:{self.proxy.port}"
        trust = {k: str(self.trust) for k in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}
        return {"HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": "127.0.0.1,localhost", **trust}

    def _trust(self) -> Path:
        bundle = self.folder / "trusted.pem"
        bundle.write_text(Path(certifi.where()).read_text() + self._certificates.authority.read_text())
        return bundle

    def _route(self, host: str) -> int | None:
        if host == BLOBS:
            return self.blobs.port
        return self._control.port if host in EXPECTED else None

    def _refused(self, request: Request, version: str) -> Response | None:
        if request.method not in ("PUT", "POST") or "authorization" not in request.headers or not request.content:
            return None
        wrong = self._hold("request", request, version, Response(200, request.json))
        serious = [v for v in wrong if v not in KNOWN]
        words = "; ".join(f"{v.where} {v.rule}" for v in serious)
        return error(400, "InvalidRequestContent", f"The request does not fit its type: {words}") if serious else None

    def _hold(
        self, direction: microsoft.Direction, request: Request, version: str, message: Response
    ) -> list[microsoft.Violation]:
        if message.status >= 300 or not isinstance(message.body, dict) or request.host != "management.azure.com":
            return []
        bodies = message.body["value"] if isinstance(message.body.get("value"), list) else [message.body]
        found: list[microsoft.Violation] = []
        for body in bodies:
            path = f"{request.path}/{body.get('name', 'x')}" if body is not message.body else request.path
            wrong = microsoft.check(direction, path, version, body)
            if wrong is not None:
                self.checked += 1
                found += wrong
        self.violations += found
        return found

    def _dispatch(self, request: Request) -> Response:
        if request.host == "management.azure.com" and "authorization" not in request.headers:
            return error(401, "AuthenticationFailed", "The request has no token.")
        for method, pattern, handler in self._routes:
            if method == request.method and pattern.search(request.path):
                return handler(request)
        return arm.not_found(request.path)

    def _table(self) -> list[tuple[str, re.Pattern[str], Handler]]:
        state, blobs, serving, runner, keys = self.state, self.blobs, self.serving, self.runner, self.keys
        front = f"http://127.0.0.1:{self._front.port}"
        rows: Mapping[str, Handler] = {
            "GET well-known/openid-configuration": lambda r: entra.configuration(state, r),
            "GET /discovery/instance": lambda r: entra.discovery(state, r),
            "POST /oauth2/v2.0/token": lambda r: entra.token(state, r),
            "GET Operations?(Status|Results)/": lambda r: arm.operation(state, r),
            "GET Microsoft.ContainerService/locations/[^/]+/operations/": lambda r: arm.operation(state, r),
            "GET Microsoft.Compute/locations/[^/]+/usages$": lambda r: aks.usages(state, r),
            "GET /discovery$": lambda r: Response(200, {"api": f"https://{assets.DATA_PLANE}"}),
            "POST /rundata$": lambda r: jobs.run_data(state, r),
            "POST /mlflow/v[12].0/": lambda r: jobs.mlflow(state, r),
            "GET /mlflow/v[12].0/": lambda r: jobs.mlflow(state, r),
            "POST /runCommand$": lambda r: aks.run_command(state, r),
            "PUT /extensions/[^/]+$": lambda r: aks.put_extension(state, r),
            "PUT /managedClusters/[^/]+$": lambda r: aks.put_cluster(state, r),
            "DELETE /(managedClusters|extensions)/[^/]+$": lambda r: aks.delete(state, r),
            "GET /datastores$": lambda r: assets.datastores(state, r),
            "POST /datastores/[^/]+/listSecrets$": lambda r: assets.secrets(state, blobs, r),
            "POST /startPendingUpload$": lambda r: assets.pending_upload(state, blobs, r),
            "GET /codes/[^/]+/versions$": lambda r: assets.code_versions(state, r),
            "GET /models/[^/]+/versions$": lambda r: assets.model_versions(state, r),
            "PUT /(codes|environments|data|models)/[^/]+/versions/[^/]+$": lambda r: assets.put_version(state, r),
            "PUT /computes/[^/]+$": lambda r: computes.put(state, r),
            "DELETE /computes/[^/]+$": lambda r: computes.delete(state, r),
            "PUT /jobs/[^/]+$": lambda r: jobs.put(state, runner, r),
            "POST /jobs/[^/]+/cancel$": lambda r: jobs.cancel(state, runner, r),
            "POST /onlineEndpoints/[^/]+/listKeys$": lambda r: endpoints.list_keys(r, keys),
            "POST /deployments/[^/]+/getLogs$": lambda r: endpoints.logs(serving, r),
            "PUT /deployments/[^/]+$": lambda r: endpoints.put_deployment(state, serving, r),
            "DELETE /deployments/[^/]+$": lambda r: endpoints.delete_deployment(state, serving, r),
            "PUT /onlineEndpoints/[^/]+$": lambda r: endpoints.put(state, r, front, keys),
            "DELETE /onlineEndpoints/[^/]+$": lambda r: endpoints.delete(state, serving, r),
            "GET /(deployments|computes|jobs|onlineEndpoints|versions|extensions|managedClusters)$": lambda r: (
                arm.listing(state, r)
            ),
            "GET ": lambda r: arm.plain(state, r),
        }
        table = []
        for row, handler in rows.items():
            method, pattern = row.split(" ", 1)
            table.append((method, re.compile(pattern, re.IGNORECASE), handler))
        return table


# The one place where the SDK itself does not fit: it sends the version of its hash as a number.
KNOWN = [
    microsoft.Violation(
        "request",
        "Microsoft.MachineLearningServices/workspaces/codes/versions",
        "2023-04-01",
        ".properties.properties.hash_version",
        "expected str, found int",
    )
]


def aimed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the surroundings of a child process that is aimed at the stand-in, without anybody else's sign-in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AZURE", "SYSTEM_", "MLFLOW_", "AZUREML_"))}
    return {**kept, **environment}

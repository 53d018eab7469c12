"""The router's configuration: HAProxy text that reproduces the published contract of Azure's inference router.

Two profiles of status codes, as documented for Kubernetes and for managed online endpoints
(https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints):

    what happened                    kubernetes (prod)    managed (dev)
    run() of score.py raised         502                  424, ms-azureml-model-error-statuscode: 500
    score.py answered 4xx            as it is             424, ms-azureml-model-error-statuscode: 4xx
    the request took too long        504                  408
    overload, or no ready replica    503                  429
    no traffic                       503                  404
    wrong or missing key             401                  401

Ours, not documented for Azure: a request whose replica died before it answered is sent to another one (scoring changes
nothing, so a repeat is safe), and every answer names its deployment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from runbook.platform.local.controller.state import Deployment, Endpoint, Replica
from runbook.platform.local.deployment_settings import Serving
from runbook.platform.local.haproxy import connections, refusal

CONFIG, TRAFFIC, DEPLOYMENTS, KEYS = "haproxy.cfg", "traffic.map", "deployments.map", "keys.lst"
PIN, CLIENT_ID = "azureml-model-deployment", "x-ms-client-request-id"
MODEL_STATUS, MODEL_REASON = "ms-azureml-model-error-statuscode", "ms-azureml-model-error-reason"
# A connect check only: a check that asks for GET / would wait behind busy workers and take busy replicas out.
SERVER = "check inter 500ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down"

_GLOBAL = """\
global
  stats socket {sockets}/admin.sock mode 600 level admin expose-fd listeners
  # What HAProxy says about servers goes to its error output, requests to its output.
  log stderr format raw local0 notice
  # One thread keeps one strict queue; without noreuseport two homes could share a port without noticing.
  nbthread 1
  noreuseport
  maxconn {connections}
  hard-stop-after {patience}s
  # The whole request is kept, so that it can be sent again when its replica dies.
  tune.bufsize {buffer}
  lua-load {refusal}
defaults
  mode http
  log global
  option dontlognull
  # A slow upload must not hold a replica, an abandoned request must not stay queued, a reload must cut nobody off.
  option http-buffer-request
  option abortonclose
  option idle-close-on-response
  # Azure's routers speak HTTP/1.1 here; one protocol has fewer forms of a body to bound.
  option disable-h2-upgrade
  timeout http-request 10s
  timeout http-keep-alive 60s
  timeout client {patience}s
  timeout connect 1s
  # Once more, elsewhere: a request that itself kills workers must not go through all of them.
  retries 1
  option redispatch 1
  retry-on conn-failure empty-response
  http-error status 502 content-type application/json string '{closed}'
  http-error status 503 content-type application/json string '{overloaded}'
  http-error status 504 content-type application/json string '{slow}'
"""
_FRONTEND = """\
frontend {name}
  bind 127.0.0.1:{port}
  no log
  log stdout format raw local0 info
  log-format '{log}'
  # As documented for Azure: x-request-id is always the service's own, the client's id is cleaned and cut at 40 characters.
  http-request set-var(txn.id) uuid()
  http-request set-var(txn.client_id) 'req.fhdr({client_id}),regsub("[^A-Za-z0-9_-]",,g),bytes(0,40)'
  http-after-response set-header x-request-id %[var(txn.id)]
  http-after-response set-header {client_id} %[var(txn.client_id)] if {{ var(txn.client_id) -m len gt 0 }}
{size_rules}\
  http-request set-header x-request-id %[var(txn.id)]
  http-request del-header {client_id}
  http-request set-header {client_id} %[var(txn.client_id)] if {{ var(txn.client_id) -m len gt 0 }}
  http-request return status 401 content-type application/json string '{unauthorized}' hdr www-authenticate Bearer \
unless {{ http_auth_bearer -m str -f {keys} }}
  http-request del-header authorization
  http-request return status 404 content-type application/json string '{unknown_path}' \
unless {{ path {prefix}/score {prefix}/swagger.json }}
  http-request set-path %[path,regsub(^{prefix}/,/)]
  http-request set-var(txn.deployment) rand(100),map_int({traffic})
  http-request set-var(txn.deployment) req.fhdr({pin}) if {{ req.hdr({pin}) -m found }}
  acl served var(txn.deployment),map_str({deployments}) -m found
  http-request return status 404 content-type application/json string '{unknown}' if {{ req.hdr({pin}) -m found }} !served
  http-request return status {idle_status} content-type application/json string '{idle}' unless served
  http-after-response set-header {pin} %[var(txn.deployment)] if served
  use_backend d_%[var(txn.deployment)]
"""
_MANAGED_FRONTEND = f"""\
  http-after-response set-header {MODEL_STATUS} %[status] if {{ var(txn.refused) -m found }}
  http-after-response set-header {MODEL_REASON} "the request is too large" if {{ var(txn.refused) -m found }}
  http-after-response set-status 424 reason "Failed Dependency" if {{ var(txn.refused) -m found }}
  http-after-response set-status 408 if {{ status 504 }}
  http-after-response set-status 429 if {{ status 503 }}
  http-after-response set-header {MODEL_STATUS} 502 if {{ status 502 }}
  http-after-response set-header {MODEL_REASON} "the replica closed the connection" if {{ status 502 }}
  http-after-response set-status 424 reason "Failed Dependency" if {{ status 502 }}
"""
_BACKEND = """\
backend d_{name}
  balance leastconn
  timeout server {timeout}ms
  timeout queue {queue}ms
"""
# Only what a replica itself answered is renamed here; what the router answers is renamed in the frontend.
_KUBERNETES_BACKEND = """\
  http-response set-status 502 if { status ge 500 } { res.hdr(x-ms-run-function-failed) -m found }
"""
_MANAGED_BACKEND = f"""\
  http-request set-var(txn.limit) nbsrv,mul({{limit}})
  http-request return status 429 content-type application/json string '{{overloaded}}' \
if {{{{ be_conn,sub(txn.limit) gt 0 }}}}
  http-response set-header {MODEL_STATUS} %[status] unless {{{{ status 200 }}}}
  http-response set-header {MODEL_REASON} "score.py answered %[status]" unless {{{{ status 200 }}}}
  http-response set-status 424 reason "Failed Dependency" unless {{{{ status 200 }}}}
"""
# One JSON line per request; what comes from the client is encoded, so that it cannot forge a line. At a reload HAProxy
# adds a line of its own that begins with "Proxy".
_LOG = (
    '{"time":"%tr","id":"%[var(txn.id)]","client_id":"%[var(txn.client_id)]","deployment":"%[var(txn.deployment),json(utf8s)]","replica":"%s","status":%ST,'
    '"ended":"%ts","request_ms":%TR,"queue_ms":%Tw,"connect_ms":%Tc,"response_ms":%Tr,"total_ms":%Ta,"queues":"%sq/%bq",'
    '"retries":"%rc"}'
)


def render(endpoint: Endpoint, sockets: Path) -> str:
    """Return haproxy.cfg of one endpoint; the files it names lie beside it, the sockets below ``sockets``."""
    ready = [d for d in endpoint.deployments.values() if d.state == "ready"]
    # A reload must not cut off the longest request: all of the queue, then all of the scoring.
    longest = max(((d.serving.queue_wait_ms + d.serving.scoring_timeout_ms) // 1000 for d in ready), default=0)
    parts = [
        _GLOBAL.format(
            sockets=sockets,
            connections=connections.most(),
            buffer=refusal.BUFFER_BYTES,
            refusal=refusal.SCRIPT,
            patience=longest + 30,
            closed=_message("Replica closed connection before replying"),
            overloaded=_overloaded(endpoint),
            slow=_message("The request timed out"),
        ),
        _frontend(endpoint),
        "" if endpoint.profile == "kubernetes" else _MANAGED_FRONTEND,
    ]
    return "".join(parts + [_backend(endpoint, deployment) for deployment in ready])


def _frontend(endpoint: Endpoint) -> str:
    kubernetes = endpoint.profile == "kubernetes"
    return _FRONTEND.format(
        name=endpoint.name,
        port=endpoint.port,
        prefix=endpoint.prefix,
        log=_LOG,
        keys=KEYS,
        traffic=TRAFFIC,
        deployments=DEPLOYMENTS,
        pin=PIN,
        client_id=CLIENT_ID,
        size_rules=refusal.RULES,
        idle_status=503 if kubernetes else 404,
        idle=_message(f"No deployment of {endpoint.name} has traffic"),
        unknown=_message(f"No ready deployment has the name in the header {PIN}"),
        unknown_path=_message(
            f"Not found; this endpoint has {endpoint.prefix}/score and {endpoint.prefix}/swagger.json"
        ),
        unauthorized=_message("Missing or wrong key; expected the header Authorization: Bearer KEY"),
    )


def _backend(endpoint: Endpoint, deployment: Deployment) -> str:
    serving = deployment.serving
    text = _BACKEND.format(name=deployment.name, timeout=serving.request_timeout_ms, queue=serving.queue_wait_ms)
    if endpoint.profile == "kubernetes":
        text += _KUBERNETES_BACKEND
    else:
        text += _MANAGED_BACKEND.format(limit=2 * serving.concurrency, overloaded=_overloaded(endpoint))
    replicas = endpoint.ready(deployment.name)
    return text + "".join(f"  server {replica.id} {server(replica, serving)}\n" for replica in replicas)


def _overloaded(endpoint: Endpoint) -> str:
    return _message(f"Too many requests for service {endpoint.name} (overloaded), or no ready replica")


def _message(text: str) -> str:
    return json.dumps({"message": text})


def traffic_ranges(traffic: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return (range of 0..99, deployment) rows: a random number in 0..99 then meets the exact percentages."""
    rows, start = [], 0
    for name, percent in traffic.items():
        if percent:
            rows.append((f"{start}:{start + percent - 1}", name))
            start += percent
    return rows


def traffic_map(endpoint: Endpoint) -> str:
    """Return traffic.map of one endpoint."""
    return "".join(f"{numbers} {name}\n" for numbers, name in traffic_ranges(endpoint.traffic))


def deployments_map(endpoint: Endpoint) -> str:
    """Return deployments.map: the names a request may be sent to."""
    return "".join(f"{d.name} 1\n" for d in endpoint.deployments.values() if d.state == "ready")


def server(replica: Replica, serving: Serving) -> str:
    """Return how a replica is written in the configuration and in the command `add server`."""
    return f"unix@{replica.socket} maxconn {serving.concurrency} {SERVER}"

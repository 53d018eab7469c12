"""Signing in: the three addresses of Entra that a client secret needs, and Azure DevOps' fresh assertions."""

from __future__ import annotations

import base64
import json
import time

from azure_standin.state import TENANT, State
from azure_standin.wire import Request, Response, error

LOGIN = "login.microsoftonline.com"


def configuration(state: State, request: Request) -> Response:
    """Answer OpenID's discovery document."""
    base = f"https://{LOGIN}/{TENANT}"
    return Response(
        200,
        {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "issuer": f"{base}/v2.0",
            "tenant_region_scope": None,
        },
    )


def discovery(state: State, request: Request) -> Response:
    """Answer which clouds belong together."""
    base = f"https://{LOGIN}/{TENANT}/v2.0/.well-known/openid-configuration"
    alias = {"preferred_network": LOGIN, "preferred_cache": LOGIN, "aliases": [LOGIN]}
    return Response(200, {"tenant_discovery_endpoint": base, "api-version": "1.1", "metadata": [alias]})


def token(state: State, request: Request) -> Response:
    """Answer a token that claims nothing but its end."""
    if b"client_secret=" not in request.content and b"client_assertion=" not in request.content:
        return error(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
    now = int(time.time())
    claims = {
        "oid": "stand-in",
        "tid": TENANT,
        "exp": now + 3600,
        "nbf": now - 60,
        "aud": "https://management.azure.com",
    }
    parts = [{"alg": "none", "typ": "JWT"}, claims]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts)
    return Response(
        200, {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": f"{text}.none"}
    )

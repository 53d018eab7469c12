"""The way to an endpoint: through the proxy and with the certificates that the environment names, as the Azure SDK goes.

Behind a company's proxy the SDK works because it reads HTTPS_PROXY, NO_PROXY and REQUESTS_CA_BUNDLE; requests and load
must take the same way. Source of the names and their order: https://requests.readthedocs.io/en/latest/user/advanced/
(Proxies, SSL Cert Verification), which azure-core's transport is built on.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import ssl
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runbook.errors import UsageError

# The first that is set wins.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Route:
    """How to reach an address; ``proxy`` is None for the straight way, ``tls`` is None for plain HTTP.

    ``proxy_headers`` hold the proxy's password, so they are never shown.
    """

    proxy: str | None
    proxy_headers: dict[str, str] = field(repr=False, default_factory=dict)
    tls: ssl.SSLContext | None = None


def to(uri: str) -> Route:
    """Return the way to ``uri``; raises UsageError for a proxy or a file of certificates that cannot be used."""
    address = urlsplit(uri)
    tls = _tls() if address.scheme == "https" else None
    proxy = _proxy(address.scheme, address.hostname or "", address.netloc.rpartition("@")[2])
    if proxy is None:
        return Route(None, tls=tls)

    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(
            f"The proxy for {address.hostname} is {parts.scheme}://{parts.hostname or ''}: expected http://HOST:PORT.\n"
            "Next: change HTTPS_PROXY, or name the host in NO_PROXY."
        )
    headers = {}
    if parts.username:
        name, password = unquote(parts.username), unquote(parts.password or "")
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Route(f"http://{host}:{parts.port or 80}", headers, tls)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy(scheme: str, host: str, host_and_port: str) -> str | None:
    if is_loopback(host) or urllib.request.proxy_bypass(host_and_port) or _in_no_proxy_network(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(scheme) or proxies.get("all")


def _in_no_proxy_network(host: str) -> bool:
    """Whether NO_PROXY names a network (10.0.0.0/8) that holds this address; Python's own reading knows only names."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in urllib.request.getproxies().get("no", "").split(","):
        try:
            if "/" in entry and address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def _tls() -> ssl.SSLContext:
    name = next((n for n in BUNDLES if os.environ.get(n)), None)
    if name is None:
        return ssl.create_default_context()
    bundle = Path(os.environ[name])
    try:
        if bundle.is_dir():
            return ssl.create_default_context(capath=str(bundle))
        return ssl.create_default_context(cafile=str(bundle))
    except OSError as error:
        raise UsageError(
            f"{name} is {bundle}, and no certificates can be read there: {error}\n"
            f"Next: set {name} to a PEM file that exists, or unset it."
        ) from error

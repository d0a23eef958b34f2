"""How the services reach other web servers: certificates and proxies."""

from __future__ import annotations

import ssl
from typing import Any

import certifi

from ..errors import InputError
from ..settings import NetworkSettings


def tls_context(network: NetworkSettings) -> ssl.SSLContext:
    """Return a context that trusts the system's store (or SSL_CERT_FILE, SSL_CERT_DIR), certifi's, and `ca_bundle`.

    Raises
    ------
    InputError
        `network.ca_bundle` is no file of certificates.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if network.ca_bundle is not None:
        try:
            context.load_verify_locations(network.ca_bundle)
        except OSError as error:
            raise InputError(
                f"network.ca_bundle: {network.ca_bundle} cannot be read as PEM certificates ({error.strerror or error})"
            ) from error
    return context


def client_options(network: NetworkSettings) -> dict[str, Any]:
    """Return what an httpx client needs to follow the settings."""
    return {"verify": tls_context(network), "trust_env": network.environment_proxy}

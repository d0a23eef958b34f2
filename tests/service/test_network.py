"""A facility's own CA: a real TLS server whose certificate no public authority signed."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.settings import NetworkSettings
from quietbeam.core.wire.web import tls_context
from quietbeam.ingest.transports.tiled.reader import TiledAddress, TiledReader
from quietbeam.publish.tiled_api import TiledApi


def write_certificate(folder: Path) -> None:
    """Write ca.pem, which signed itself for 127.0.0.1, and key.pem."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(*form))


class Node(http.server.BaseHTTPRequestHandler):
    """Answers everything as a Tiled node."""

    def do_GET(self) -> None:
        body = b'{"data": {"id": "x", "attributes": {"metadata": {}}}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    write_certificate(tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Node)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def reach(uri: str, network: NetworkSettings) -> None:
    """Ask for a node as publish does, and as ingest does."""
    api, reader = TiledApi(uri, "k", network=network), TiledReader(TiledAddress.parse(f"tiled+{uri}/x"), "k", network)
    try:
        assert api.node("x") is not None
        assert reader.node("x")["id"] == "x"
    finally:
        api.close()
        reader.close()


def test_the_setting_names_the_facilitys_ca(server: str, tmp_path: Path) -> None:
    reach(server, NetworkSettings(ca_bundle=tmp_path / "ca.pem"))


def test_the_environment_names_the_facilitys_ca(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    reach(server, NetworkSettings())


def test_an_unknown_ca_is_refused(server: str) -> None:
    with pytest.raises(ServiceError, match="certificate"):
        reach(server, NetworkSettings())


def test_a_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificates")
    for path in (tmp_path / "no.pem", tmp_path / "missing.pem"):
        with pytest.raises(InputError, match=r"network\.ca_bundle"):
            tls_context(NetworkSettings(ca_bundle=path))

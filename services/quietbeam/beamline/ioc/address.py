"""Where an IOC is: prefix and port, and the EPICS variables that keep it on this machine."""

from __future__ import annotations

import importlib.util
import socket
from dataclasses import dataclass

from quietbeam.core.errors import InputError, ServiceError

STANDARD_PORT = 5064
_NEEDED = {"caproto": "caproto", "epics": "pyepics", "aioca": "ophyd-async[ca]"}


def require_epics() -> None:
    """Raise an error with the command to install what is missing.

    Raises
    ------
    InputError
        A package of the extra ``epics`` is not installed.
    """
    missing = [name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed: pip install 'quietbeam[epics]'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Prefix and Channel Access port of an IOC on this machine.

    Names carry no braces: caproto takes them for macros.
    """

    prefix: str = "QB:"
    port: int = STANDARD_PORT

    def __post_init__(self) -> None:
        if not self.prefix or any(c in self.prefix for c in "{}$. \t"):
            raise InputError(f"PV prefix {self.prefix!r}: write it without braces, $, dots and spaces, as QB:")
        if not 0 < self.port < 65536:
            raise InputError(f"Channel Access port {self.port} must be 1 to 65535")

    @property
    def detector(self) -> str:
        """Prefix of the Xspress3."""
        return f"{self.prefix}XSP3:"

    @property
    def slow(self) -> str:
        """Motor record of the slow axis."""
        return f"{self.prefix}m1"

    @property
    def fast(self) -> str:
        """Motor record of the fast axis."""
        return f"{self.prefix}m2"

    @property
    def i0(self) -> str:
        """Counts of the ion chamber during the last exposure."""
        return f"{self.prefix}I0"

    def server_environment(self) -> dict[str, str]:
        """Return what the IOC needs: loopback only."""
        return {
            "EPICS_CA_SERVER_PORT": str(self.port),
            "EPICS_CAS_SERVER_PORT": str(self.port),
            "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
            "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
            "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
        }

    def client_environment(self) -> dict[str, str]:
        """Return what a client needs to find the IOC, before its first PV."""
        return {
            "EPICS_CA_ADDR_LIST": "127.0.0.1",
            "EPICS_CA_AUTO_ADDR_LIST": "NO",
            "EPICS_CA_SERVER_PORT": str(self.port),
        }


def free_ca_port(wanted: int = 0) -> int:
    """Return `wanted` when nothing listens there on loopback, TCP and UDP, else a port that is free on both.

    Raises
    ------
    ServiceError
        No port is free.
    """
    for port in (wanted, *([0] * 20)):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                found = int(tcp.getsockname()[1])
                udp.bind(("127.0.0.1", found))
            except OSError:
                continue
            return found
    raise ServiceError("no free port for Channel Access on 127.0.0.1")

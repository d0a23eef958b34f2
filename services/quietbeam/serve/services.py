"""What all routes share: settings, one Redis client, run catalog, map reader, event hub, keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection

from .access import Authenticator
from .live.hub import EventHub
from .metrics.observe import RequestMetrics
from .state.catalog import RunCatalog
from .state.maps import MapReader
from .state.regions import RegionStore
from .state.units import UnitTable

API = "/api/v1"
API_VERSION = "1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the routes share."""

    settings: Settings
    connection: Connection
    catalog: RunCatalog
    maps: MapReader
    units: UnitTable
    regions: RegionStore
    hub: EventHub
    requests: RequestMetrics
    authenticator: Authenticator


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Shared = Annotated[Services, Depends(_services)]

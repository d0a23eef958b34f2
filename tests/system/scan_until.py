"""Scans the IOC in passes until quietbeam says that the wanted SNR is reached, as a beamline's script would.

``python scan_until.py PREFIX PORT REDIS_URL URL KEY SNR MOST``; EPICS variables in the environment.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from bluesky import RunEngine

from quietbeam.beamline.ioc.address import Address
from quietbeam.beamline.ioc.devices import connect
from quietbeam.beamline.ioc.plans import passes_map
from quietbeam.runengine import stop_at_snr
from quietbeam.runengine.publisher import RedisPublisher

prefix, port, redis_url, url, key, snr, most = sys.argv[1:]
devices = connect(Address(prefix=prefix, port=int(port)))
publisher = RedisPublisher(redis_url)
RE = RunEngine({})
RE.subscribe(publisher)
seen: dict[str, Any] = {"events": 0}


def note(name: str, doc: Any) -> None:
    if name == "start":
        seen["uid"] = doc["uid"]
    elif name == "event":
        seen["events"] += 1
    elif name == "stop":
        seen.update(exit_status=doc["exit_status"], reason=doc["reason"])


RE.subscribe(note)
RE(stop_at_snr(passes_map(devices, int(most)), url, key, snr=float(snr), lines=["Fe_Ka"], every_s=0.5))
assert publisher.close(30.0), "documents were not sent"
print(json.dumps(seen))

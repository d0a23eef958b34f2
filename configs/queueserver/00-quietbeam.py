"""Start-up file of a RE Manager: the IOC's devices, plans, and the publisher to quietbeam.

How to run it: docs/how-to/queue-server.md. Read from the environment: REDIS_URL of quietbeam, QUIETBEAM_IOC_PREFIX
(QB:), QUIETBEAM_SPOOL (a folder for documents while Redis is away), for `xrf_until_snr` QUIETBEAM_URL and
QUIETBEAM_KEY, and the EPICS variables that the IOC printed.
"""

import os

from bluesky import RunEngine

from quietbeam.beamline.ioc import plans as _plans
from quietbeam.beamline.ioc.address import Address
from quietbeam.beamline.ioc.devices import connect
from quietbeam.runengine import stop_at_snr
from quietbeam.runengine.publisher import RedisPublisher

_beamline = connect(Address(prefix=os.environ.get("QUIETBEAM_IOC_PREFIX", "QB:")))
xs, i0, sample_y, sample_x = _beamline.detector, _beamline.i0, _beamline.slow, _beamline.fast

RE = RunEngine({})
RE.subscribe(RedisPublisher(os.environ["REDIS_URL"], spool_dir=os.environ.get("QUIETBEAM_SPOOL")))


def xrf_map(snake: bool = True):
    """Map the whole sample, point by point."""
    return (yield from _plans.step_map(_beamline, snake=snake))


def xrf_passes(passes: int = 4):
    """Map the whole sample `passes` times; quietbeam adds the passes up."""
    return (yield from _plans.passes_map(_beamline, passes))


def xrf_until_snr(snr: float, lines: list[str] | None = None, most: int = 20):
    """Map the whole sample until each of `lines` (default: all) has the signal-to-noise ratio, at most `most` times."""
    return (
        yield from stop_at_snr(
            _plans.passes_map(_beamline, most),
            os.environ["QUIETBEAM_URL"],
            os.environ["QUIETBEAM_KEY"],
            snr=snr,
            lines=lines or (),
        )
    )

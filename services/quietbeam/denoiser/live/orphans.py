"""Runs that have unfinished maps and no worker."""

from __future__ import annotations

from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection

_LOOK_AT = 200
"""Newest runs among which they are looked for."""


def find_orphans(connection: Connection, *, failed: bool = False) -> list[str]:
    """Return the uids of runs that nobody denoises, also of those whose worker went silent; newest first.

    Parameters
    ----------
    failed
        Also those on which the denoiser failed.
    """
    settled = (b"final",) if failed else (b"final", b"failed")
    uids = runs.list_runs(connection, limit=_LOOK_AT)
    with connection.pipeline(transaction=False) as pipe:
        for uid in uids:
            pipe.hmget(keys.run(uid), "state", "denoise_state", "damage", "denoise_request")
            pipe.exists(keys.lease(uid))
        replies = pipe.execute()
    return [
        uid
        for uid, (state, denoise_state, damage, asked), leased in zip(uids, replies[::2], replies[1::2], strict=True)
        if state not in (None, b"unusable") and (asked is not None or denoise_state not in settled)
        if damage is None and not leased
    ]

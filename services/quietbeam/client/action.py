"""A requested action and its progress."""

from __future__ import annotations

import time
from typing import Any

from .errors import FailedError
from .session import Session


class ActionHandle:
    """An action of the service: denoise again, pin, delete.

    Attributes
    ----------
    attributes
        ``action``, ``run``, ``state`` (``queued``, ``running``, ``done``, ``failed``), ``reason``, ``by``; empty when
        nothing had to be done.
    """

    def __init__(self, session: Session, action_id: str, attributes: dict[str, Any]) -> None:
        self._session, self.id, self.attributes = session, action_id, attributes

    def __repr__(self) -> str:
        if not self.id:
            return "<ActionHandle: nothing to do>"
        return f"<ActionHandle {self.attributes['action']} of {self.attributes['run']}: {self.attributes['state']}>"

    @property
    def settled(self) -> bool:
        """True when nothing more happens."""
        return not self.id or self.attributes["state"] in ("done", "failed")

    def refresh(self) -> ActionHandle:
        """Return it as it is now."""
        if not self.id:
            return self
        return ActionHandle(self._session, self.id, self._session.get(f"actions/{self.id}")["data"]["attributes"])

    def wait(self, timeout_s: float = 600.0, *, every_s: float = 0.5) -> ActionHandle:
        """Return when it is done.

        Raises
        ------
        FailedError
            It failed, or is not done in time.
        """
        limit, now = time.monotonic() + timeout_s, self.refresh()
        while not now.settled:
            if time.monotonic() > limit:
                reason = now.attributes["reason"] or "its stage has not come to it"
                raise FailedError(f"{now.attributes['action']} is {now.attributes['state']} still: {reason}")
            time.sleep(every_s)
            now = now.refresh()
        if now.id and now.attributes["state"] == "failed":
            raise FailedError(f"{now.attributes['action']} failed: {now.attributes['reason']}")
        return now

"""Answers about actions: what was requested of a stage and how far it is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from quietbeam.core.wire.actions import Action

from .envelope import Answer, NoMeta, Resource


class ActionInfo(BaseModel):
    """An action."""

    action: str = Field(description="`denoise`, `choose_weights`, `pin`, `unpin` or `delete`.")
    run: str | None = Field(description="uid of the run; null for actions of no single run.")
    options: dict[str, Any]
    state: str = Field(description="`queued`, `running`, `done` or `failed`.")
    reason: str = Field(description="Why it failed, or what is still to be done.")
    by: str = Field(description="Who requested it.")
    at: float = Field(description="When it was requested, seconds since 1970.")


class ActionAnswer(Answer[Resource[ActionInfo], NoMeta]):
    """One action."""


class Pinned(BaseModel):
    """Whether a run is pinned."""

    pinned: bool


class PinnedAnswer(Answer[Resource[Pinned], NoMeta]):
    """The run is pinned, or not pinned, already."""


class ModelId(BaseModel):
    """Name of weights."""

    id: str
    type: str


class ChosenAnswer(Answer[ModelId, NoMeta]):
    """These weights are chosen already."""


def action_resource(action: Action) -> Resource[ActionInfo]:
    """Return an action as it is sent."""
    info = ActionInfo(
        action=action.kind,
        run=action.run or None,
        options=dict(action.options),
        state=action.state,
        reason=action.reason,
        by=action.by,
        at=action.at,
    )
    return Resource(id=action.id, type="action", attributes=info)

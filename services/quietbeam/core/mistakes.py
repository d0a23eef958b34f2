"""Mistakes in settings and profiles in plain words: which key, what was found, what is accepted, with an example."""

from __future__ import annotations

import difflib
import json
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

_LONGEST = 60
WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    SecretStr: "text",
    Path: "the path of a file or folder",
    timedelta: "a duration in seconds (15), or as text (PT15S, 00:00:15)",
}
_NONE = type(None)


def explain(error: ValidationError, model: type[BaseModel], *, env_prefix: str = "") -> str:
    """Return all mistakes that `error` names, as one sentence each.

    Parameters
    ----------
    model
        The class whose values are wrong.
    env_prefix
        Of environment variables that set values, too: ``QUIETBEAM_``.
    """
    sentences = [_sentence(details, model, env_prefix) for details in error.errors()]
    return "; ".join(dict.fromkeys(sentences))  # of a union, every member has its own complaint


def explain_json(section: str, model: type[BaseModel], env_prefix: str) -> str:
    """Return which environment variables of a section should be JSON and are not."""
    wrong = []
    for name, text in _variables(f"{env_prefix}{section}"):
        place = _Place(model, tuple(name.removeprefix(env_prefix).lower().split("__")))
        try:
            is_json = not isinstance(json.loads(text), str)
        except ValueError:
            is_json = False
        if place.is_compound and not is_json:
            example = f", for example {name}={place.example!r}" if place.example else ""
            found = "text" if place.is_secret else _shown(text)
            wrong.append(f"{name}: found {found}; accepted is JSON of {place.accepted}{example}")
    return "; ".join(wrong)


def unknown_variables(model: type[BaseModel], env_prefix: str) -> str:
    """Return which environment variables name a section that is not there."""
    wrong = []
    for name, _ in _variables(f"{env_prefix}"):
        section, dots, _ = name.removeprefix(env_prefix).lower().partition("__")
        if dots and section not in model.model_fields:
            wrong.append(f"{name}: there is no section {section!r}{_meant(section, model, model)}")
    return "; ".join(wrong)


def _variables(prefix: str) -> list[tuple[str, str]]:
    found = [(name.upper(), text) for name, text in os.environ.items() if name.upper().startswith(prefix.upper())]
    return sorted(found)


class _Place:
    """The setting at which pydantic complains.

    Attributes
    ----------
    path
        Its name as people write it: ``ingest.sources, entry 2``.
    keys
        The names alone.
    owner
        The class in which the last name was looked for.
    """

    def __init__(self, model: type[BaseModel], loc: Sequence[int | str]) -> None:
        self.owner: type[BaseModel] = model
        self.field: FieldInfo | None = None
        self.keys: list[str] = []
        self.path = ""
        self._kind: Any = model
        self._limits: list[Any] = []
        for part in loc:
            self._enter(part)

    def _enter(self, part: int | str) -> None:
        """Go one step deeper; a part that is no step is pydantic's name of a member of a union."""
        members = _members(self._kind)
        section = next((kind for kind in members if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if section is not None and isinstance(part, str):
            self.owner = section
            self.field = section.model_fields.get(part)
            self._kind = Any if self.field is None else self.field.annotation
            self._limits = [] if self.field is None else list(self.field.metadata)
            self._name(part)
            return
        for kind in members:
            origin, arguments = get_origin(kind), get_args(kind)
            if origin in (tuple, list) and isinstance(part, int):
                item = arguments[0] if len(arguments) == 1 or arguments[-1] is Ellipsis else arguments[part]
                self.path += f", entry {part + 1}"
            elif origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
                item = arguments[1]
                self._name(str(part))
            else:
                continue
            self._kind, self._limits = _bare(item)
            return

    def _name(self, part: str) -> None:
        self.keys.append(part)
        self.path += f".{part}" if self.path else part

    @property
    def is_compound(self) -> bool:
        """True when the value is a list, a mapping or a section."""
        return any(get_origin(kind) in (tuple, list, dict) or _is_section(kind) for kind in _members(self._kind))

    @property
    def is_secret(self) -> bool:
        """True when the value, or a part of it, must not be shown."""
        return _holds_secret(self._kind)

    @property
    def accepted(self) -> str:
        """What may stand here."""
        return accepted(self._kind, self._limits)

    @property
    def example(self) -> str:
        """A value that is accepted, as YAML and as JSON; empty where none is known."""
        field = self.field
        if field is None:
            return ""
        values = [*(field.examples or ()), field.get_default(call_default_factory=False)]
        return next((text for text in map(_example, values) if text), "")


def accepted(kind: Any, limits: Sequence[Any] = ()) -> str:
    """Say in words what a type and its limits (`FieldInfo.metadata`) accept."""
    members = _members(kind)
    words = [_words(member, limits) for member in members if member is not _NONE]
    return " or ".join(dict.fromkeys(words)) + (", or nothing" if _NONE in members else "")


def sections_in(kind: Any) -> list[type[BaseModel]]:
    """Return the sections of settings that a type may be."""
    return [member for member in _members(kind) if _is_section(member)]


def _sentence(details: ErrorDetails, model: type[BaseModel], env_prefix: str) -> str:
    place, kind = _Place(model, details["loc"]), details["type"]
    name = place.path or "the file"
    variable = f"{env_prefix}{'__'.join(place.keys)}".upper()
    if env_prefix and place.keys and any(variable == known for known, _ in _variables(env_prefix)):
        name = f"environment variable {variable} ({name})"
    if kind == "extra_forbidden":
        return f"{name}: there is no such key{_meant(place.keys[-1], place.owner, model)}"
    if kind == "missing":
        return f"{name}: is missing; accepted is {place.accepted}{_meaning(place)}"
    if kind in ("value_error", "assertion_error"):
        why = str(details.get("ctx", {}).get("error", "") or details["msg"])
        return f"{name}: found {_shown(details['input'], place.is_secret)}; {why}"
    form = _meaning(place) if kind == "string_pattern_mismatch" else ""
    example = f", for example {place.example}" if place.example else ""
    return f"{name}: found {_shown(details['input'], place.is_secret)}; accepted is {place.accepted}{example}{form}"


def _meaning(place: _Place) -> str:
    return f" ({place.field.description})" if place.field is not None and place.field.description else ""


def _meant(key: str, owner: type[BaseModel], root: type[BaseModel]) -> str:
    """Return what an unknown key may stand for, else which keys there are."""
    known, plain = list(owner.model_fields), key.lower().replace("-", "_")
    near = [path for path in (*known, *_paths(root)) if path.rpartition(".")[2] == plain][:1]
    near = near or difflib.get_close_matches(plain, known, n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"


def _paths(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield before + name
        for section in sections_in(field.annotation):
            yield from _paths(section, f"{before}{name}.")


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _holds_secret(kind: Any) -> bool:
    for member in _members(kind):
        inner = [f.annotation for f in member.model_fields.values()] if _is_section(member) else get_args(member)
        if member is SecretStr or any(map(_holds_secret, inner)):
            return True
    return False


def _bare(kind: Any) -> tuple[Any, list[Any]]:
    """Return a type without what ``Annotated`` says of it, and that."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        limits = [limit for note in notes for limit in (note.metadata if isinstance(note, FieldInfo) else [note])]
        return inner, limits
    return kind, []


def _members(kind: Any) -> list[Any]:
    """Return the types of a union, else the type itself."""
    kind, _ = _bare(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return [member for one in get_args(kind) for member in _members(one)]
    return [kind]


def _words(kind: Any, limits: Sequence[Any] = ()) -> str:
    """Say in words what a type accepts."""
    kind, more = _bare(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (tuple, list) and arguments:
        if len(arguments) > 1 and arguments[-1] is not Ellipsis:
            return f"a list of {len(arguments)}: {', '.join(map(_words, arguments))}"
        return f"a list, each entry {_words(arguments[0])}"
    if len(arguments) == 2:  # dict and Mapping
        return f"a mapping of names to {_words(arguments[1])}"
    if _is_section(kind):
        return f"a section with some of the keys {', '.join(kind.model_fields)}"
    return WORDS.get(kind, "another value") + _range([*limits, *more])


def _range(limits: Sequence[Any]) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "of a length of at least"}
    found = [(words[name], getattr(limit, name)) for limit in limits for name in words if hasattr(limit, name)]
    limits_in_words = " and ".join(f"{word} {_seconds(value)}" for word, value in found if value is not None)
    return f", {limits_in_words}" if limits_in_words else ""


def _seconds(value: Any) -> str:
    return f"{value.total_seconds():g} s" if isinstance(value, timedelta) else f"{value}"


def _example(value: Any) -> str:
    """Return a value as one writes it in YAML, which is JSON, too; empty for none."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    if isinstance(value, Path):
        return json.dumps(str(value))
    if isinstance(value, bool | int | float | str) and value != "":
        return json.dumps(value)
    if isinstance(value, tuple | list | dict) and value:
        return json.dumps(value, default=str)
    return ""


def _shown(value: Any, is_secret: bool = False) -> str:
    """Return what was found, cut to a short text."""
    if value is None:
        return "nothing"
    if is_secret and not isinstance(value, Mapping | list | tuple):
        return f"a value of the type {type(value).__name__}"
    if isinstance(value, timedelta):
        return _seconds(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value))[:_LONGEST] or 'nothing'}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."

"""docs/reference/settings.md, made from the settings: name, what is accepted, default, meaning, environment variable.

``python -m tests.settings_page`` writes the page; tests/unit/test_core_settings.py fails when it is out of date.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from quietbeam.core.mistakes import WORDS, accepted, sections_in
from quietbeam.core.settings import ENV_PREFIX, Settings

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"
_HEAD = """# Settings

Every setting, as the code defines it. The same as a JSON schema, for editors:
[config.schema.json](config.schema.json).

Settings stand in a YAML file, which commands take with `-c FILE` or from `QUIETBEAM_CONFIG`; what is left out has its
default. Environment variables win over the file; lists and mappings are JSON there
(`QUIETBEAM_INGEST__SOURCES='["redis"]'`). `quietbeam config show -c FILE` prints what holds. A duration is a number of
seconds, or a text as `PT15S` or `00:00:15`. A key that is not on this page is an error.
"""
_TABLE = "\n| setting | accepted | default | meaning | environment variable |\n|---|---|---|---|---|\n"


def page() -> str:
    """Return the page."""
    parts = [_HEAD, "\n## Of the whole installation\n", _TABLE, *_rows(Settings, "")]
    for title, model in _sections(Settings):
        about = (model.__doc__ or "").splitlines()[0].replace("``", "`")
        parts += [f"\n## {title}\n\n{about}\n", _TABLE, *_rows(model, f"{title}.")]
    return "".join(parts)


def _rows(model: type[BaseModel], before: str) -> list[str]:
    fields = model.model_fields.items()
    return [_row(before + name, field) for name, field in fields if not sections_in(field.annotation)]


def _sections(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        for section in sections_in(field.annotation):
            yield before + name, section
            yield from _sections(section, f"{before}{name}.")


def _row(name: str, field: FieldInfo) -> str:
    assert field.description, f"{name} does not say what it means"
    kind = accepted(field.annotation, field.metadata).replace(WORDS[timedelta], "a duration")
    variable = f"`{ENV_PREFIX}{name.upper().replace('.', '__')}`"
    meaning = field.description if field.description.endswith(".") else f"{field.description}."
    cells = (f"`{name}`", kind, _default(field), meaning, variable)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value: Any = field.get_default(call_default_factory=False)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    if value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""Files of settings: UTF-8 in every locale, and no key twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import InputError


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, which takes the last of two equal keys and says nothing; this one refuses."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping.

        Raises
        ------
        yaml.YAMLError
            A key is there twice.
        """
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in seen:
                raise yaml.YAMLError(f"{key.value!r} is there twice, in lines {seen[name]} and {line}; keep one")
            seen[name] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Return the contents of a YAML file; None when it is empty.

    Raises
    ------
    InputError
        Not readable, not UTF-8, not YAML, or a key is there twice; the message says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path} is not UTF-8: see line {line}", remedy="save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        loader = _UniqueKeys(text)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from error

"""The OpenAPI document as it is kept in ``docs/reference/openapi.json``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from quietbeam.core.settings import RedisSettings, Settings

from .app import create_app


def openapi_json() -> str:
    """Return the document; touches no server and no data folder."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), redis=RedisSettings(url=f"unix://{folder}/none"))
        return json.dumps(create_app(settings).openapi(), indent=1, sort_keys=True) + "\n"

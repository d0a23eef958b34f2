"""The embedded Tiled server: a catalog below ``data_dir/tiled`` in a uvicorn of our own.

Our own, because Tiled's `SimpleTiledServer` cannot switch off websocket compression, which makes one live update of
2 MB cost 174-333 ms instead of 28-56, and says itself that it is not for production.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quietbeam.core.errors import InputError
from quietbeam.core.settings import Settings

from . import tiled_export

LIVE_CACHE_S = 60
"""How long the server keeps live updates for subscribers who come late (in memory)."""

_TURN_S = 60
"""A request that waits longer for its turn at the tables fails."""
_FOLDERS = ("data", "tables")


def check_folder(data_dir: Path) -> None:
    """Refuse a folder whose name cannot be part of the catalog's address.

    Raises
    ------
    InputError
        It has a question mark or a line end.
    """
    if any(character in str(data_dir.resolve()) for character in "?\n\r"):
        raise InputError(
            f"data_dir {str(data_dir)!r} has a question mark or a line end, which the catalog of Tiled cannot have",
            remedy="choose another data_dir, or set tiled.uri",
        )


def build(folder: Path, api_key: str, *, readable: tuple[Path, ...] = ()) -> Any:
    """Return the ASGI application with its catalog, data and tables below `folder`."""
    from tiled.catalog import from_uri
    from tiled.config import Authentication, StreamingCacheConfig
    from tiled.media_type_registration import default_serialization_registry
    from tiled.server.app import build_app

    if not api_key.isalnum():
        raise InputError("tiled.api_key must be letters and digits only, so that it can be part of a URL")
    folder = folder.resolve()
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    tables: Any = f"duckdb:///{folder / 'tables' / 'tables.duckdb'}"
    catalog = from_uri(
        str(folder / "catalog.db"),
        writable_storage=[folder / "data", tables],
        readable_storage=list(readable),
        init_if_not_exists=True,
        cache_config=StreamingCacheConfig(uri="memory", data_ttl=LIVE_CACHE_S).model_dump(),
    )
    _use_one_at_a_time(tables)
    default_serialization_registry.register("BlueskyRun", "application/json-seq", _documents)
    default_serialization_registry.register(tiled_export.SPEC, tiled_export.MEDIA_TYPE, tiled_export.serialize_hdf5)
    return build_app(catalog, authentication=Authentication(single_user_api_key=api_key))


def _use_one_at_a_time(tables: str) -> None:
    """Let requests take turns at the database of tables.

    Tiled 0.2 gives all its threads one connection of DuckDB (`StaticPool`). A request that reads a table while another
    one appends to it then ends the other's transaction: both are answered by 500, and DuckDB may end the process.
    """
    from sqlalchemy.pool import QueuePool
    from tiled.storage import SQLStorage, parse_storage

    storage = parse_storage(tables)  # Tiled's own object: it makes one for each address
    assert isinstance(storage, SQLStorage)
    turns = QueuePool(storage._adbc_connection.adbc_clone, pool_size=1, max_overflow=0, timeout=_TURN_S)
    vars(storage)["_connection_pool"] = turns


async def _documents(*arguments: Any) -> Any:
    """Give the documents of a raw run that TiledWriter keeps here; imported when first asked for, for it takes long."""
    from bluesky_tiled_plugins.exporters import json_seq_exporter
    from tiled.utils import ensure_awaitable

    return await ensure_awaitable(json_seq_exporter, *arguments)


def serve(settings: Settings, *, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    import uvicorn

    app = build(settings.data_dir / "tiled", settings.tiled_api_key())
    uvicorn.run(
        app,
        host=host,
        port=settings.embedded.tiled_port if port is None else port,
        ws_per_message_deflate=False,
        ws_max_size=64 * 2**20,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
    )

"""One tree of settings: YAML file, then ``QUIETBEAM_...`` environment variables (``QUIETBEAM_SERVE__PORT=9000``)."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from . import mistakes
from .errors import InputError
from .redis_socket import socket_path
from .secrets import read_or_make
from .sections import (
    BatchSettings,
    CurveSettings,
    DenoiseSettings,
    EmbeddedSettings,
    IngestSettings,
    NetworkSettings,
    OidcSettings,
    QuantifySettings,
    RedisSettings,
    ServeSettings,
    TiledSettings,
    UserPath,
    expanded,
)
from .yaml_file import read_yaml

__all__ = [
    "BatchSettings",
    "CurveSettings",
    "DenoiseSettings",
    "EmbeddedSettings",
    "IngestSettings",
    "NetworkSettings",
    "OidcSettings",
    "QuantifySettings",
    "RedisSettings",
    "ServeSettings",
    "Settings",
    "TiledSettings",
    "configs_dir",
    "load_correct_settings",
    "load_settings",
]

_MOST_WRONG = 20
"""Rounds of removing wrong entries; each finds what the one before it hid."""


ENV_PREFIX = "QUIETBEAM_"


class Settings(BaseSettings):
    """All settings of quietbeam."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    data_dir: UserPath = Field(
        default=Path(".run"),
        description="Everything quietbeam keeps: run buffers, embedded servers, secrets.",
    )
    redis: RedisSettings = RedisSettings()
    tiled: TiledSettings = TiledSettings()
    ingest: IngestSettings = IngestSettings()
    denoise: DenoiseSettings = DenoiseSettings()
    serve: ServeSettings = ServeSettings()
    quantify: QuantifySettings = QuantifySettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    batch: BatchSettings = BatchSettings()
    network: NetworkSettings = NetworkSettings()
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level of what stages write into their logs."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file."""
        return env_settings, init_settings

    def make_data_dir(self) -> Path:
        """Make `data_dir` where it is missing, for its owner only (0700); one that is there keeps its mode."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self.data_dir.mkdir(exist_ok=True, mode=0o700)
        return self.data_dir

    @property
    def runs_dir(self) -> Path:
        """Root of the zarr run buffers."""
        return self.data_dir / "runs"

    @property
    def weights_dir(self) -> Path:
        """Folder of user-trained weights."""
        return self.data_dir / "weights"

    @property
    def calibrations_dir(self) -> Path:
        """Folder of calibrations for areal densities."""
        return self.data_dir / "calibrations"

    @property
    def secrets_dir(self) -> Path:
        """Folder (0700) of keys made at first start."""
        return self.data_dir / "secrets"

    @property
    def redis_is_embedded(self) -> bool:
        """True when no Redis URL is configured."""
        return not (os.environ.get("REDIS_URL") or self.redis.url)

    @property
    def redis_url(self) -> str:
        """URL for redis-py."""
        return os.environ.get("REDIS_URL") or self.redis.url or f"unix://{quote(str(socket_path(self.data_dir)))}"

    @property
    def tiled_uri(self) -> str:
        """URI of the Tiled server."""
        return self.tiled.uri or f"http://127.0.0.1:{self.embedded.tiled_port}/api/v1"

    def tiled_api_key(self) -> str:
        """Return the key for Tiled: configured, else (embedded) the one kept in `secrets_dir`."""
        if self.tiled.api_key:
            return self.tiled.api_key.get_secret_value()
        if self.tiled.uri:
            raise InputError("tiled.uri is set without a key", remedy="set QUIETBEAM_TILED__API_KEY")
        self.make_data_dir()
        return read_or_make(self.secrets_dir / "tiled_api_key")

    def serve_api_key(self) -> str:
        """Return the single-user key of our own API: configured, else the one kept in `secrets_dir`."""
        if self.serve.api_key:
            return self.serve.api_key.get_secret_value()
        self.make_data_dir()
        return read_or_make(self.secrets_dir / "api_key")


def configs_dir() -> Path:
    """Folder of the shipped configs: in the wheel, else in the checkout."""
    packaged = Path(str(resources.files("quietbeam"))) / "configs"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "configs"


def load_settings(config: str | Path | None = None, **overrides: Any) -> Settings:
    """Read settings from a YAML file (a path, or the name of a shipped config such as ``embedded``).

    Parameters
    ----------
    config
        Path or name; None takes ``QUIETBEAM_CONFIG``, else ``embedded``.
    overrides
        Top-level values that win over the file, not over the environment.

    Raises
    ------
    InputError
        File missing, not YAML, or a setting that is wrong; the message names it.
    """
    path, data = _read(config)
    if wrong := mistakes.unknown_variables(Settings, ENV_PREFIX):
        raise InputError(wrong)
    try:
        return Settings(**{**data, **overrides})
    except ValidationError as error:
        wrong = mistakes.explain(error, Settings, env_prefix=ENV_PREFIX)
        raise InputError(wrong if wrong.startswith("environment variable") else f"{path}: {wrong}") from error
    except SettingsError as error:  # an environment variable that should be JSON
        section = str(error).partition('"')[2].partition('"')[0]
        raise InputError(mistakes.explain_json(section, Settings, ENV_PREFIX) or str(error)) from error


def load_correct_settings(config: str | Path | None = None) -> Settings:
    """Read settings as :func:`load_settings` does, without the entries of the file that are wrong.

    Raises
    ------
    InputError
        The file cannot be read, or a variable of the environment is wrong.
    """
    _, data = _read(config)
    for _ in range(_MOST_WRONG):
        try:
            return Settings(**data)
        except SettingsError:
            break
        except ValidationError as error:
            removed = [_remove(data, entry["loc"]) for entry in error.errors()]
            if not any(removed):
                break
    return load_settings(config)


def _remove(data: dict[str, Any], place: tuple[int | str, ...]) -> bool:
    """Remove the entry at a place of the file, or the last mapping that leads there; False when there is none."""
    for depth, key in enumerate(place):
        inner = data.get(str(key))
        if depth == len(place) - 1 or not isinstance(inner, dict):
            return data.pop(str(key), None) is not None
        data = inner
    return False


def _read(config: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """Return the path of a config and what is in it."""
    name = str(config or os.environ.get("QUIETBEAM_CONFIG") or "embedded")
    path = expanded(Path(name))
    if not path.is_file():
        path = configs_dir() / f"{name}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in configs_dir().glob("*.yaml")))
        raise InputError(f"no config {name!r}: give a YAML file or one of {shipped}")
    data = read_yaml(path) or {}
    if not isinstance(data, dict):
        raise InputError(f"{path} must be a mapping of settings")
    return path, {str(key): value for key, value in data.items()}

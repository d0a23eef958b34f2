"""The sections of the settings, one class each: what the options are called, their limits and what they mean."""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

_SOURCE = r"^(redis|zmq(\+curve)?://\S+:\d{1,5}/?|kafka://[^\s/]+/[^\s/?]+(\?\S*)?|tiled\+https?://[^\s/]+(/\S*)?)$"


class Section(BaseModel):
    """Base of the settings sections: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def expanded(path: Path) -> Path:
    """Return a path with ``~`` replaced; as it is where nobody has a home."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _nameable(path: Any) -> Any:
    """Return what could name a file or folder; ValueError where it could not."""
    text = str(path) if isinstance(path, str | Path) else "."
    if not text.strip():
        raise ValueError("a path is needed, and the text is empty: for the present folder write .")
    if "\0" in text:
        raise ValueError("a path must not hold the character NUL")
    if len(os.fsencode(text)) > _LONGEST_PATH or any(
        len(os.fsencode(part)) > _LONGEST_NAME for part in Path(text).parts
    ):
        raise ValueError(f"a path has at most {_LONGEST_PATH} bytes, and each name in it at most {_LONGEST_NAME}")
    return path


_LONGEST_PATH, _LONGEST_NAME = 4095, 255
UserPath = Annotated[Path, BeforeValidator(_nameable), AfterValidator(expanded)]
Duration = Annotated[timedelta, Field(ge=timedelta(0))]
"""Seconds, or a text as `PT15S`; not below 0."""
Bytes = Annotated[int, Field(gt=0, le=2**50)]
"""A size that a machine could have: up to a pebibyte."""


def _prefix(path: str) -> str:
    """Return a path prefix with one slash in front and none behind; empty for none."""
    path = path.strip().strip("/")
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", path) or any(part in ("", ".", "..") for part in path.split("/")[1:]):
        raise ValueError("a prefix has letters, digits and . _ ~ - between slashes, such as /xrf")
    return f"/{path}" if path else ""


def _network(address: str) -> str:
    """Return an address or network as it was given; ValueError when it is none."""
    ipaddress.ip_network(address)
    return address


PathPrefix = Annotated[str, AfterValidator(_prefix)]
NetworkAddress = Annotated[str, AfterValidator(_network)]


class RedisSettings(Section):
    """The Redis (or Valkey) server that carries rows, states and, if wanted, documents."""

    url: str | None = Field(
        default=None,
        description="redis://, rediss:// or unix:// URL. Empty: the embedded server. REDIS_URL overrides.",
    )


class TiledSettings(Section):
    """The Tiled server that gets the maps."""

    uri: str | None = Field(default=None, description="URI of an external Tiled server. Empty: the embedded one.")
    api_key: SecretStr | None = Field(
        default=None, description="API key for Tiled; better from QUIETBEAM_TILED__API_KEY."
    )
    root: str = Field(default="quietbeam", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Container for all runs.")
    raw_root: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_/-]{0,200}$",
        description="Container of the raw runs on the same server, as TiledWriter writes them ('' for the top): "
        "the denoised run then names the path of its raw run.",
    )
    interval: Duration = Field(
        default=timedelta(seconds=0.5), description="Least time between two live updates of a run."
    )


class CurveSettings(Section):
    """Keys for ``zmq+curve://``: files as ``zmq.auth.create_certificates`` writes them, or 40 characters of Z85."""

    server_key_file: UserPath | None = Field(default=None, description="Public key of the 0MQ proxy: its *.key file.")
    server_key: str | None = Field(default=None, description="The same key itself; wins over the file.")
    client_key_file: UserPath | None = Field(
        default=None,
        description="Our own key: a *.key_secret file. Neither file nor key: a new pair, for a proxy that takes any.",
    )
    client_key: SecretStr | None = Field(
        default=None, description="Our secret key itself; better from QUIETBEAM_INGEST__CURVE__CLIENT_KEY."
    )


class IngestSettings(Section):
    """Where documents come from and how they are understood."""

    sources: tuple[Annotated[str, Field(pattern=_SOURCE)], ...] = Field(
        default=("redis",),
        description="Document sources: 'redis' (the stream qb:docs), 'zmq://HOST:PORT' or 'zmq+curve://HOST:PORT' "
        "(out side of a bluesky 0MQ proxy), 'kafka://BROKER,BROKER/TOPIC?group=NAME&start=latest', "
        "'tiled+http://HOST:PORT/CATALOG?start=latest' (runs that TiledWriter writes).",
    )
    curve: CurveSettings = CurveSettings()
    kafka: dict[str, SecretStr] = Field(
        default={}, description="More settings of librdkafka for kafka://, such as security.protocol, sasl.password."
    )
    tiled_api_key: SecretStr | None = Field(
        default=None,
        description="Key for tiled+http(s)://; better from QUIETBEAM_INGEST__TILED_API_KEY. Empty: none, or that of "
        "the Tiled that gets the maps where it is the same.",
    )
    profiles: tuple[str, ...] = Field(
        default=("simulated", "simulated-areas", "xspress3", "xspress3-hdf5", "generic"),
        description="Beamline profiles, tried in order: names in configs/beamlines or paths of YAML files.",
    )
    data_roots: tuple[UserPath, ...] = Field(
        default=(),
        description="Files announced by documents are opened only below these folders. data_dir is always one.",
    )
    stale_after: Duration = Field(
        default=timedelta(minutes=10), description="Silence after which a run counts as stale."
    )
    path_map: dict[str, UserPath] = Field(
        default={},
        description="Folders as documents name them on the detector's computer -> the same folders as mounted here, "
        "such as {/mnt/det: /data/det}. The mapped path must lie below data_roots.",
    )
    file_timeout: Duration = Field(
        default=timedelta(seconds=10), description="How long to wait for announced data to be in its file."
    )
    keep_runs: timedelta | None = Field(
        default=None,
        gt=timedelta(hours=1),
        description="Age at which finished runs that are not pinned are deleted, in Tiled too. Empty: never.",
    )
    keep_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Most bytes that all runs may take on disk. Above it, the oldest finished runs are deleted, in "
        "Tiled too, except those that are pinned or that a worker still has to denoise or refine. Empty: no limit.",
    )
    max_pixels: int = Field(
        default=16_777_216, gt=0, le=2**32, description="Largest map (rows x cols) that is admitted."
    )
    max_buffer_bytes: Bytes = Field(default=64 * 2**30, description="Largest uncompressed run buffer that is admitted.")
    fsync: bool = Field(
        default=True,
        description="Acknowledge documents only when their rows are on disk (fsync), not in the memory of the "
        "operating system: a power failure then loses nothing. The embedded Redis waits for its disk, too.",
    )
    max_spectrum_bytes: Bytes = Field(default=2**30, description="Most bytes read from a detector file at once.")


class DenoiseSettings(Section):
    """The denoise worker."""

    device: str = Field(default="auto", description="'auto', 'cpu', 'cuda', 'cuda:1', 'mps'.")
    first_map_rows: int = Field(default=4, ge=1, le=8, description="Rows after which the first denoised map is made.")
    fine_tune: bool = Field(default=True, description="Fine-tune on the scan between inferences.")
    burst: Duration = Field(
        default=timedelta(seconds=2),
        description="Longest fine-tuning burst between two looks at the rows.",
    )
    live_budget: Duration = Field(
        default=timedelta(seconds=120), description="Fine-tuning time a run may use while it is live."
    )
    final_within: Duration = Field(
        default=timedelta(seconds=15),
        description="Final maps are written so soon after the end of a run. Evidence covers fewer rows where the "
        "machine is too slow for all of them.",
    )
    refine: bool = Field(
        default=True,
        description="Improve final maps when no run is live: more fine-tuning, an average over flips, more estimates "
        "to choose from. They are written as a newer version where held-out counts say that they are better. "
        "False: all of that comes before the final maps, however long it takes.",
    )
    final_budget: Duration = Field(
        default=timedelta(seconds=20),
        description="Time of the last fine-tune, when final maps are refined.",
    )
    evaluate_every: Duration = Field(
        default=timedelta(seconds=1), description="Least time between two evidence updates."
    )
    lease: Duration = Field(
        default=timedelta(seconds=10),
        description="A worker that is silent for so long loses its runs.",
    )
    max_live_bytes: Bytes = Field(
        default=4 * 2**30,
        description="Largest run (counts as float32) held in memory. The detectors of a larger one are summed in "
        "groups; where even that is too large, its raw map is shown.",
    )
    weights: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="Pretrained weights that runs start from: shipped ones, or of data_dir/weights; empty: the newest "
        "that were shipped. The API can choose others.",
    )
    seed: int = Field(default=0, description="Of everything that is drawn at random: equal seeds give equal maps.")


ScopeName = Literal["read:metadata", "read:data", "write:data", "delete:data", "metrics", "admin:apikeys"]


class OidcSettings(Section):
    """The facility's identity provider, whose bearer tokens the API takes beside its own keys."""

    issuer: str = Field(
        pattern=r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])(:|/|$))",
        description="URL of the provider, exactly as in its tokens (`iss`).",
    )
    audience: str = Field(min_length=1, description="For whom the tokens are (`aud`): quietbeam's client id there.")
    claim: str = Field(default="groups", description="Claim that lists the groups or roles of a person.")
    grants: dict[str, tuple[ScopeName, ...]] = Field(
        default={}, description="Scopes that members of a group have, by the group's name."
    )
    everyone: tuple[ScopeName, ...] = Field(
        default=("read:metadata", "read:data"), description="Scopes of everybody who has a valid token."
    )


class ServeSettings(Section):
    """REST API and dashboard."""

    host: str = Field(
        default="127.0.0.1", description="Address on which it listens; 0.0.0.0 for all of the machine, with keys."
    )
    port: int = Field(default=8480, ge=0, le=65535, description="Port of REST API and dashboard.")
    api_key: SecretStr | None = Field(
        default=None, description="Single-user key; empty: made at first start, kept in data_dir/secrets."
    )
    anonymous_read: bool = Field(default=False, description="Let anyone who reaches the port read maps and states.")
    insecure: bool = Field(default=False, description="Allow anonymous_read on an address beyond loopback.")
    oidc: OidcSettings | None = Field(default=None, description="Take bearer tokens of an identity provider.")
    root_path: PathPrefix = Field(
        default="",
        description="Path prefix when behind a reverse proxy, such as /xrf; the proxy may strip it or not.",
    )
    trusted_proxies: tuple[NetworkAddress, ...] = Field(
        default=(),
        description="Addresses or networks of the reverse proxies in front, such as 127.0.0.1 or 10.1.0.0/24: only "
        "from them are X-Forwarded-For and X-Forwarded-Proto believed.",
    )
    reports: bool = Field(default=True, description="Write data_dir/reports/UID.html when a run has its final maps.")


class QuantifySettings(Section):
    """Areal densities."""

    calibration: str = Field(
        default="",
        description="Calibration for areal densities of all runs: a name in data_dir/calibrations, as `quietbeam "
        "calibrate` writes it, or a JSON file, ours or PyXRF's. Empty: none.",
    )


class NetworkSettings(Section):
    """How other web servers are reached: Tiled and the identity provider."""

    ca_bundle: UserPath | None = Field(
        default=None,
        description="PEM file with the certificates of the facility's own CA, trusted beside those of the system "
        "(SSL_CERT_FILE and SSL_CERT_DIR are followed too).",
    )
    environment_proxy: bool = Field(
        default=False, description="Use the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name."
    )


class BatchSettings(Section):
    """Where `quietbeam batch` runs: processes of this machine where neither `scheduler` nor `cluster` is set."""

    scheduler: str | None = Field(
        default=None,
        description="Address of a Dask scheduler that runs already, as tcp://HOST:8786 or tls://HOST:8786.",
    )
    cluster: Literal["slurm", "lsf", "htcondor"] | None = Field(
        default=None, description="Batch system in which dask-jobqueue starts the workers."
    )
    options: dict[str, Any] = Field(
        default={},
        description="Of the jobs: keywords of dask-jobqueue's SLURMCluster, LSFCluster or HTCondorCluster, such as "
        "queue, cores, processes, memory, walltime.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Processes of this machine, or jobs of the batch system. Empty: by cores; one job.",
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="How often a file is tried again whose worker was killed or ran out of memory.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> BatchSettings:
        if self.scheduler and self.cluster:
            raise ValueError("set scheduler or cluster, not both")
        if self.options and not self.cluster:
            raise ValueError("options are for the jobs of a cluster: set cluster, too")
        return self


class EmbeddedSettings(Section):
    """Servers that `quietbeam up` starts itself where no external one is configured."""

    tiled_port: int = Field(default=8481, ge=0, le=65535, description="Port of the embedded Tiled, on 127.0.0.1.")
    zmq_in: str | None = Field(
        default=None, description="'127.0.0.1:5577': start a 0MQ proxy (RunEngine publishes here)."
    )
    zmq_out: str | None = Field(default=None, description="'127.0.0.1:5578': where ingest subscribes.")

"""The command line as a whole, the install script, the committed schema, the compose file's commands."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from quietbeam.cli import app
from quietbeam.cli.tools import settings_schema
from quietbeam.core.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def quietbeam(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quietbeam", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def commands() -> set[str]:
    from typer.main import get_command

    return set(get_command(app).commands)  # type: ignore[attr-defined]


def test_error_of_ours_is_one_line_and_exit_code_2() -> None:
    done = quietbeam("config", "show", "-c", "no-such-config")
    assert done.returncode == 2
    assert done.stderr.startswith("quietbeam: no config 'no-such-config'") and done.stderr.count("\n") == 1


def test_a_source_that_is_none_is_refused_by_name() -> None:
    done = quietbeam("up", QUIETBEAM_INGEST__SOURCES='["kafka://broker:9092"]')
    assert done.returncode == 2
    assert done.stderr.startswith("quietbeam:") and "ingest.sources, entry 1" in done.stderr


def test_debug_shows_the_traceback() -> None:
    done = quietbeam("--debug", "config", "show", "-c", "no-such-config")
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("torch", ("denoise", "{map}", "-o", "{out}")),
        ("h5py", ("denoise", "{map}", "-o", "{out}")),
        ("xraylib", ("calibrate", "{map}", "film", "--standard", "film.yaml", "--beam-energy", "10")),
        ("fastapi", ("serve",)),
        ("bluesky", ("simulate",)),
        ("yaml", ("config", "show")),
    ],
)
def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, package: str, arguments: tuple[str, ...]) -> None:
    """An installation without the package: its import fails as it does there."""
    np.savez(tmp_path / "map.npz", counts=np.ones((2, 1, 8, 8), np.uint32), lines=["Fe_Ka"])
    program = f"import sys; sys.modules['{package}'] = None; from quietbeam.__main__ import main; main()"
    given = [one.format(map=tmp_path / "map.npz", out=tmp_path / "out.h5") for one in arguments]
    done = subprocess.run(
        [sys.executable, "-c", program, *given],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "QUIETBEAM_DATA_DIR": str(tmp_path / "data")},
        check=False,
    )
    said = f"the command `quietbeam` needs the package '{package}', which is not installed: pip install"
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"quietbeam: {said} 'quietbeam[all]'"


def test_command_line_imports_nothing_heavy() -> None:
    heavy = ("torch", "zarr", "bluesky", "tiled", "numpy")
    code = f"import sys, quietbeam.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_every_stage_of_the_supervisor_is_a_command() -> None:
    from quietbeam.app.programs import STAGES

    assert {*STAGES, "up", "doctor", "config", "_tiled", "_zmq-proxy"} <= commands()


def test_schema_in_docs_is_the_schema() -> None:
    committed = json.loads((ROOT / "docs/reference/config.schema.json").read_text())
    assert committed == json.loads(json.dumps(settings_schema())), (
        "run: quietbeam config schema > docs/reference/config.schema.json"
    )


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configs_fit_the_schema(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jsonschema

    jsonschema.validate(yaml.safe_load(path.read_text()), settings_schema())
    load_settings(path)


def test_show_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://user:hunter2@example:6379/0")
    monkeypatch.setenv("QUIETBEAM_TILED__API_KEY", "hunter3")
    monkeypatch.setenv("QUIETBEAM_SERVE__API_KEY", "hunter4")
    shown = CliRunner().invoke(app, ["config", "show"])
    assert shown.exit_code == 0 and "hunter" not in shown.output
    assert "redis://user:***@example:6379/0" in shown.output


def test_doctor_reports_every_check_and_fails_when_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIETBEAM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("QUIETBEAM_INGEST__DATA_ROOTS", json.dumps([str(tmp_path / "missing")]))
    monkeypatch.setenv("QUIETBEAM_INGEST__SOURCES", json.dumps(["redis", "zmq://127.0.0.1:1"]))
    done = CliRunner().invoke(app, ["doctor", "--json"])
    findings = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    assert {"Python", "torch", "weights", "profile", "disk", "ports", "Redis", "Tiled"} <= {
        f["check"] for f in findings
    }
    source = next(f for f in findings if f["check"] == "source")
    assert source["verdict"] == "warning" and "zmq://127.0.0.1:1:" in source["found"]
    missing = next(f for f in findings if f["check"] == "data roots")
    assert missing["verdict"] == "failure" and "ingest.data_roots" in missing["remedy"]
    assert done.exit_code == 1
    table = CliRunner().invoke(app, ["doctor"])
    assert table.exit_code == 1 and "what to do" in table.output
    assert str(tmp_path / "missing") in table.output.split(), "paths are not broken, however long"


def test_a_tiled_without_its_key_is_found_and_nothing_is_started(tmp_path: Path) -> None:
    environment = {
        "QUIETBEAM_DATA_DIR": str(tmp_path),
        "QUIETBEAM_TILED__URI": "http://127.0.0.1:1/api/v1",
        "REDIS_URL": "redis://127.0.0.1:1",
    }
    findings = map(json.loads, quietbeam("doctor", "--json", **environment).stdout.splitlines())
    tiled = next(f for f in findings if f["check"] == "Tiled")
    assert tiled["verdict"] == "failure" and tiled["remedy"] == "set QUIETBEAM_TILED__API_KEY"
    done = quietbeam("up", **environment)
    assert done.returncode == 2
    assert done.stderr == "quietbeam: tiled.uri is set without a key: set QUIETBEAM_TILED__API_KEY\n"
    assert not (tmp_path / "logs").exists()


def test_the_doctor_takes_its_remedies_from_errors_not_from_their_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a message is worded, with colons and `stop` and `set` in it, message and remedy stay apart."""
    from quietbeam.app import doctor
    from quietbeam.core.errors import InputError, ServiceError
    from quietbeam.core.settings import Settings
    from quietbeam.embedded import valkey
    from quietbeam.ingest import transports

    message, remedy = "worded anew: stop that: set this: all", "do: this"

    def failing(kind: type[ServiceError] | type[InputError]) -> Any:
        def fail(*_: object, **_options: object) -> None:
            raise kind(message, remedy=remedy)

        return fail

    monkeypatch.setenv("QUIETBEAM_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("QUIETBEAM_INGEST__SOURCES", json.dumps(["zmq://127.0.0.1:1"]))
    monkeypatch.setattr(transports, "probe_source", failing(InputError))
    monkeypatch.setattr(doctor, "check_ports", failing(ServiceError))
    monkeypatch.setattr(valkey, "find_binary", failing(ServiceError))
    monkeypatch.setattr(Settings, "tiled_api_key", failing(InputError))
    found = {finding.check: finding for finding in doctor.examine(load_settings())}
    for check in ("source", "ports", "Redis", "Tiled"):
        assert found[check].verdict == "failure" and found[check].remedy == remedy, found[check]
        assert found[check].found.endswith(message)


def test_keys_are_printed_on_a_terminal_only_and_given_ones_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quietbeam.cli.up import where

    monkeypatch.setenv("QUIETBEAM_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    made = "\n".join(where(load_settings()))
    keys = [(tmp_path / "secrets" / name).read_text() for name in ("api_key", "tiled_api_key")]
    assert all(f"?api_key={key}" in made for key in keys), "keys made here are known to nobody else"
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    logged = "\n".join(where(load_settings()))
    assert not any(key in logged for key in keys)
    assert all(str(tmp_path / "secrets" / name) in logged for name in ("api_key", "tiled_api_key"))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("REDIS_URL", "redis://user:hunter2@example:6379/0")
    monkeypatch.setenv("QUIETBEAM_TILED__API_KEY", "hunter3")
    monkeypatch.setenv("QUIETBEAM_SERVE__API_KEY", "hunter4")
    assert "hunter" not in "\n".join(where(load_settings()))


def test_no_sign_of_life_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, redis_server: str, redis: Any) -> None:
    from quietbeam.core.process.stage import heartbeat

    monkeypatch.setenv("REDIS_URL", redis_server)
    assert CliRunner().invoke(app, ["alive", "ingest"]).exit_code == 1
    heartbeat(redis, "ingest")
    assert CliRunner().invoke(app, ["alive", "ingest"]).exit_code == 0


def test_version_is_the_one_of_the_package() -> None:
    from importlib.metadata import version

    assert CliRunner().invoke(app, ["--version"]).output.split() == ["quietbeam", version("quietbeam")]


# --- install ----------------------------------------------------------------------------------------------------


def load_install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quietbeam_install", ROOT / "deploy/install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_install_asks_for_the_build_that_fits_the_machine() -> None:
    install = load_install()
    assert install.torch_requirement("auto", "2.13.0", gpu=False) == "torch==2.13.0"
    assert install.torch_requirement("auto", "2.13.0", gpu=True) == "torch===2.13.0"
    assert install.torch_requirement("torch", "2.13.0", gpu=False) == "torch"


def test_install_can_leave_out_the_project_or_copy_it() -> None:
    install = load_install()
    options = install.argparse.Namespace(extras="test", no_editable=False, only_dependencies=False)
    assert install.wanted(options) == ["-e", f"{ROOT}[test]"]
    options.no_editable, options.extras = True, ""
    assert install.wanted(options) == [str(ROOT)]
    options.only_dependencies = True
    assert not any(name.startswith(("zarr", "torch")) for name in install.wanted(options))
    options.extras = "all"
    names = {re.split(r"[\[>;]", name)[0] for name in install.wanted(options)}
    assert names >= {"numpy", "zarr", "torch", "xarray"} and "quietbeam" not in names


def test_constraints_pin_every_dependency() -> None:

    pins = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    wanted = load_install().dependencies("test")
    names = {re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9_.-]+", w)[0]).lower() for w in wanted}  # type: ignore[index]
    assert names - pins == set()
    assert "+" not in (ROOT / "constraints.txt").read_text(), "a local version would tie everybody to one build"


def test_no_address_of_a_package_index_in_what_installs() -> None:
    for name in ("Makefile", "deploy/install.py", "deploy/Dockerfile", "constraints.txt"):
        assert not re.search(r"https?://", (ROOT / name).read_text()), name


# --- compose ----------------------------------------------------------------------------------------------------

OURS = sorted(name for name, service in COMPOSE["services"].items() if "quietbeam" in service.get("image", ""))


def test_compose_has_every_stage() -> None:
    from quietbeam.app.programs import STAGES

    assert sorted(STAGES) == OURS


@pytest.mark.parametrize("name", OURS)
def test_compose_commands_parse_on_the_real_command_line(name: str) -> None:
    from typer.main import get_command

    service = COMPOSE["services"][name]
    for words in (service["command"], service["healthcheck"]["test"][1:]):
        arguments = shlex.split(words) if isinstance(words, str) else list(words)
        assert arguments[0] == "quietbeam" or arguments[0] in commands()
        arguments = arguments[1:] if arguments[0] == "quietbeam" else arguments
        command = get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
        command.make_context(arguments[0], arguments[1:])


@pytest.mark.parametrize("name", OURS)
def test_compose_services_have_no_privileges(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] != "root" and not service.get("privileged")
    assert service["healthcheck"]["test"][0] == "CMD"


def test_compose_publishes_only_what_users_reach_and_on_loopback() -> None:
    published = {n: s["ports"] for n, s in COMPOSE["services"].items() if s.get("ports")}
    assert set(published) <= {"serve", "tiled", "redis", "prometheus", "grafana"}
    assert all(str(port).startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_tiled_of_compose_takes_its_config(monkeypatch: pytest.MonkeyPatch) -> None:
    from tiled.config import Config

    monkeypatch.syspath_prepend(ROOT / "services/quietbeam/embedded")  # Tiled looks beside its config
    values = yaml.safe_load((ROOT / "deploy/tiled.yaml").read_text())
    config = Config(**values)
    assert config.streaming_cache is not None and config.streaming_cache.uri == "memory"
    assert config.uvicorn["ws_per_message_deflate"] is False
    assert config.authentication.allow_anonymous_access is False


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/compose.gpu.yaml"])
def test_compose_file_is_read_by_a_compose_parser(name: str) -> None:
    parser = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    # The parser knows no YAML merge keys and no ${VARIABLES}: it gets what a person reads after both.
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda m: m[1].lower(), (ROOT / name).read_text())
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    values = {k: v for k, v in yaml.safe_load(text).items() if not k.startswith("x-")}
    parsed = parser.PyCompose.from_yaml(yaml.safe_dump(values))
    assert set(parsed.service_names()) == set(values["services"])
    values["services"]["worker"]["no_such_key"] = 1
    with pytest.raises(ValueError):
        parser.PyCompose.from_yaml(yaml.safe_dump(values))


def test_secrets_of_compose_come_from_the_environment() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for variable in ("QUIETBEAM_TILED__API_KEY", "QUIETBEAM_SERVE__API_KEY"):
        assert re.search(rf"\$\{{{variable}:\?", text), f"{variable} must be demanded, not defaulted"

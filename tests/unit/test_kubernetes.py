"""The manifests of deploy/kubernetes: rendered by kubectl, checked against schemas of Kubernetes and quietbeam."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from quietbeam.cli import app
from quietbeam.core.settings import load_settings

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "deploy" / "kubernetes"
STAGES = ("ingest", "worker", "publish", "serve")
VERSIONS = ("1.29", "1.37")
"""Oldest and newest Kubernetes whose schemas the manifests are checked against."""

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl (Debian: kubernetes-client)")


def rendered(folder: str | Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what kubectl makes of a folder, by kind and name."""
    command = ["kubectl", "kustomize", str(FOLDER / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stderr == ""
    resources = list(yaml.safe_load_all(done.stdout))
    return {(r["kind"], r["metadata"]["name"]): r for r in resources}


@pytest.fixture(scope="module")
def base() -> dict[tuple[str, str], dict[str, Any]]:
    return rendered("base")


def pod(resources: dict[tuple[str, str], dict[str, Any]], stage: str) -> dict[str, Any]:
    found: dict[str, Any] = resources["Deployment", f"quietbeam-{stage}"]["spec"]["template"]
    return found


def container(resources: dict[tuple[str, str], dict[str, Any]], stage: str) -> dict[str, Any]:
    found: dict[str, Any] = pod(resources, stage)["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("folder", ["base", "overlays/gpu"])
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_understands_every_manifest(folder: str, version: str) -> None:
    for resource in rendered(folder).values():
        kubernetes_validate.validate(resource, version, strict=True)
    wrong = rendered(folder)["Deployment", "quietbeam-worker"]
    wrong["spec"]["template"]["spec"]["container"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_stages_start_commands_that_exist_with_settings_that_are_right(
    base: dict[tuple[str, str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    (config,) = (r for (kind, _), r in base.items() if kind == "ConfigMap")
    (tmp_path / "quietbeam.yaml").write_text(config["data"]["quietbeam.yaml"], encoding="utf-8")
    for name in ("QUIETBEAM_TILED__API_KEY", "QUIETBEAM_SERVE__API_KEY"):
        monkeypatch.setenv(name, "key")
    settings = load_settings(tmp_path / "quietbeam.yaml")
    for stage in STAGES:
        one = container(base, stage)
        assert one["command"] == ["quietbeam", stage] and stage in commands
        assert {"name": "QUIETBEAM_CONFIG", "value": "/etc/quietbeam/quietbeam.yaml"} in one["env"]
        mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
        assert mounts == {"data": str(settings.data_dir), "config": "/etc/quietbeam", "tmp": "/tmp"}
        volumes = {volume["name"]: volume for volume in pod(base, stage)["spec"]["volumes"]}
        assert ("PersistentVolumeClaim", volumes["data"]["persistentVolumeClaim"]["claimName"]) in base
        assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"]
        assert pod(base, stage)["spec"]["enableServiceLinks"] is False, "QUIETBEAM_PORT would be a wrong setting"
        assert pod(base, stage)["spec"]["securityContext"]["runAsUser"] == 10001, "the user of the Dockerfile"
    assert container(base, "serve")["ports"] == [{"name": "http", "containerPort": settings.serve.port}]
    assert base["Deployment", "quietbeam-ingest"]["spec"]["strategy"]["type"] == "Recreate", "ingest holds a lock"


def test_probes_ask_what_exists(base: dict[tuple[str, str], dict[str, Any]]) -> None:
    paths = json.loads((REPOSITORY / "docs/reference/openapi.json").read_text(encoding="utf-8"))["paths"]
    serve = container(base, "serve")
    asked = {probe: serve[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert set(asked.values()) <= set(paths)
    for stage in STAGES[:-1]:
        for probe in ("startupProbe", "livenessProbe"):
            assert container(base, stage)[probe]["exec"]["command"] == ["quietbeam", "alive", stage]


def test_selectors_mean_the_pods_of_quietbeam_and_no_others(base: dict[tuple[str, str], dict[str, Any]]) -> None:
    selectors = {
        "quietbeam-stages": base["NetworkPolicy", "quietbeam-stages"]["spec"]["podSelector"]["matchLabels"],
        "quietbeam-serve": base["NetworkPolicy", "quietbeam-serve"]["spec"]["podSelector"]["matchLabels"],
        "service": base["Service", "quietbeam"]["spec"]["selector"],
    }
    chosen = {
        name: {s for s in STAGES if selector.items() <= pod(base, s)["metadata"]["labels"].items()}
        for name, selector in selectors.items()
    }
    assert chosen == {"quietbeam-stages": set(STAGES), "quietbeam-serve": {"serve"}, "service": {"serve"}}
    assert all(selector["app.kubernetes.io/name"] == "quietbeam" for selector in selectors.values())


def test_the_gpu_is_the_workers_alone(base: dict[tuple[str, str], dict[str, Any]]) -> None:
    overlay = rendered("overlays/gpu")
    assert {key for key in base.keys() | overlay.keys() if base.get(key) != overlay.get(key)} == {
        ("Deployment", "quietbeam-worker")
    }
    worker = container(overlay, "worker")
    assert worker["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert {"name": "QUIETBEAM_DENOISE__DEVICE", "value": "cuda"} in worker["env"]
    assert overlay["Deployment", "quietbeam-worker"]["spec"]["strategy"] == {"type": "Recreate"}


def test_the_overlay_of_the_documentation_can_be_rendered(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs/how-to/install-at-a-beamline.md").read_text(encoding="utf-8")
    overlay = text[text.index("resources: [../../base]") :].partition("```")[0]
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    mine = tmp_path / "kubernetes" / "overlays" / "xrf"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(overlay, encoding="utf-8")
    (mine / "quietbeam.yaml").write_text("data_dir: /data\nlog_level: debug\n", encoding="utf-8")
    found = rendered(mine)
    (config,) = (r for (kind, _), r in found.items() if kind == "ConfigMap")
    assert "log_level: debug" in config["data"]["quietbeam.yaml"]
    assert all(container(found, stage)["image"].endswith("/quietbeam:0.2") for stage in STAGES)
    assert found["PersistentVolumeClaim", "quietbeam-data"]["spec"]["storageClassName"] == "YOUR-CLASS"
    assert {resource["metadata"]["namespace"] for resource in found.values()} == {"xrf"}
    for resource in found.values():
        kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)

"""Prometheus' view of a running installation: every metric that a rule or a panel asks for is there, and has moved."""

from __future__ import annotations

import copy
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from tests.monitoring_page import DEPLOY, PANELS, PROMETHEUS, asked_for, families, queries, rules, sample_names

from quietbeam.app.ports import free_port

from .conftest import Installation, wait_until


def test_a_scan_as_prometheus_sees_it(installation: Installation, tmp_path: Path) -> None:
    known, began = set(installation.uids()), time.time()
    with ExitStack() as stack:
        watching = stack.enter_context(prometheus(installation, tmp_path)) if shutil.which("prometheus") else None
        scan = installation.scan(tmp_path / "truth.npz", "--shape", "24x24", "--dwell", "0.02", "--seed", "2")
        uid = installation.new_run(known)
        http = stack.enter_context(installation.http())

        def there() -> bool:
            text = http.get("/metrics").raise_for_status().text
            assert uid not in text
            return asked <= sample_names(families(text))

        asked = {name for query in queries() for name in asked_for(query)}
        wait_until(there, 60, "every metric while the scan goes on")
        installation.finished(scan)
        installation.final(uid)
        text = http.get("/metrics").raise_for_status().text
        if watching:
            every_panel_has_data(watching, began)
            every_rule_is_quiet(watching)
    values = {sample.name: sample.value for metric in families(text) for sample in metric.samples if not sample.labels}
    for name in ("documents_received", "rows_committed", "maps_denoised", "tiled_updates"):
        assert values[f"quietbeam_{name}_total"] > 0, name
    assert 0 < values["quietbeam_row_commit_seconds"] < 60
    assert "quietbeam_open_run_data_age_seconds" not in values, "no run goes on any more"
    for stage in ("ingest", "worker", "publish", "serve"):
        assert f'quietbeam_stage_up{{stage="{stage}"}} 1.0' in text
        found = re.search(rf'quietbeam_stage_memory_bytes{{stage="{stage}"}} (\S+)', text)
        assert found and 2e7 < float(found[1]) < 1e10


@contextmanager
def prometheus(installation: Installation, folder: Path) -> Iterator[httpx.Client]:
    """A real Prometheus with the shipped config and this installation's addresses and keys; it scrapes every second."""
    secrets, ports = (
        installation.settings.secrets_dir,
        {
            "quietbeam": (installation.settings.serve.port, "api_key"),
            "tiled": (installation.settings.embedded.tiled_port, "tiled_api_key"),
        },
    )
    config: dict[str, Any] = {
        **copy.deepcopy(PROMETHEUS),
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
    }
    for job in config["scrape_configs"]:
        port, key = ports[job["job_name"]]
        job["authorization"]["credentials_file"] = str((secrets / key).resolve())
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "prometheus/alerts.yml", folder)
    port = free_port()
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1/", timeout=10) as http:

            def scraped() -> bool:
                assert process.poll() is None, (folder / "prometheus.log").read_text()
                try:
                    answer = http.get("targets")
                except httpx.HTTPError:
                    return False
                if answer.status_code == 503:  # it starts
                    return False
                found = answer.json()["data"]["activeTargets"]
                assert not [target for target in found if target["lastError"]], found
                return [target["health"] for target in found] == ["up", "up"]

            wait_until(scraped, 60, "both targets scraped with their keys")
            yield http
    finally:
        process.terminate()
        process.wait(20)


def every_panel_has_data(http: httpx.Client, began: float) -> None:
    """Each query of the Grafana dashboard was answered with numbers at some moment of the scan."""
    for panel in PANELS:
        for target in panel["targets"]:
            asked = {"query": target["expr"], "start": began, "end": time.time(), "step": 1}
            found = http.get("query_range", params=asked).raise_for_status().json()["data"]["result"]
            values = [float(value) for series in found for _, value in series["values"]]
            assert not all(map(math.isnan, values)), f"{panel['title']}: no data for {target['expr']}"


def every_rule_is_quiet(http: httpx.Client) -> None:
    """All rules are evaluated without an error, and no alert calls somebody."""

    def evaluated() -> list[Any]:
        groups = http.get("rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] != "unknown"]

    wait_until(lambda: len(evaluated()) == len(rules()), 60, "every rule evaluated")
    assert {rule["health"] for rule in evaluated()} == {"ok"}
    pages = [rule for rule in evaluated() if rule["state"] != "inactive" and rule["labels"]["severity"] == "page"]
    assert pages == []

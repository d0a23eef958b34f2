"""Prometheus and Grafana as they are shipped: valid, about metrics that exist, and alerts that fire when they shall."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.monitoring_page import (
    DEPLOY,
    GRAFANA,
    PAGE,
    PANELS,
    PROMETHEUS,
    ROOT,
    RULES,
    asked_for,
    page,
    queries,
    rules,
    sample_names,
    scrape,
)

from quietbeam.core.settings import ServeSettings, Settings

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool: apt-get install prometheus")


def test_the_page_says_what_is_there_and_rules_and_panels_ask_for_nothing_else(settings: Settings) -> None:
    found = scrape(settings.model_copy(update={"serve": ServeSettings(api_key="key-of-the-test")}))  # type: ignore[arg-type]
    assert PAGE.read_text() == page(found), "run python -m tests.monitoring_page"
    there = sample_names(found)
    for query in queries():
        asked = asked_for(query)
        assert asked or "up{job=" in query, query
        assert asked <= there, f"{query} asks for {asked - there}"
    shown = {name for panel in PANELS for target in panel["targets"] for name in asked_for(target["expr"])}
    uncharted = {metric.name for metric in found} - {name.removesuffix("_bucket") for name in shown}
    assert uncharted == {"quietbeam_build_info", "quietbeam_fine_tune_steps_total"}
    for metric in found:
        assert len(metric.documentation.split()) >= 4, f"{metric.name} does not explain itself"


def test_every_alert_says_what_it_costs_and_what_to_do() -> None:
    jobs = {job["job_name"] for job in PROMETHEUS["scrape_configs"]}
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "effect", "action"}, rule["alert"]
        assert all(len(text.split()) >= 2 for text in rule["annotations"].values()), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket", "info")
        assert set(re.findall(r'job="(\w+)"', rule["expr"])) <= jobs
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_panels_explain_themselves_and_do_not_overlap() -> None:
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["type"] == "prometheus" and GRAFANA["schemaVersion"] >= 36 and 0 < len(GRAFANA["uid"]) <= 40
    ids = [panel["id"] for panel in GRAFANA["panels"]]
    assert len(set(ids)) == len(ids) and min(ids) > 0, "Grafana finds panels by these"
    taken: set[tuple[int, int]] = set()
    for panel in GRAFANA["panels"]:
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["description"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references), panel["title"]
        assert {panel["datasource"]["uid"], *(t["datasource"]["uid"] for t in panel["targets"])} == {source["uid"]}


def test_the_compose_profile_mounts_what_the_configs_name() -> None:
    prometheus, grafana = (COMPOSE["services"][name] for name in ("prometheus", "grafana"))
    assert prometheus["profiles"] == grafana["profiles"] == ["monitoring"]
    for service in (prometheus, grafana):
        for volume in service["volumes"]:
            host, inside, *_ = volume.split(":")
            assert not host.startswith(".") or (ROOT / host).is_dir(), volume
            assert inside.startswith("/")
    for job in PROMETHEUS["scrape_configs"]:
        assert job["authorization"]["type"] == "Apikey"
        assert Path(job["authorization"]["credentials_file"]).name in prometheus["secrets"]
        [target] = job["static_configs"][0]["targets"]
        assert target.split(":")[0] in COMPOSE["services"]
    for name in prometheus["secrets"]:
        assert COMPOSE["secrets"][name]["environment"].endswith("_API_KEY")
    for file in PROMETHEUS["rule_files"]:
        assert (DEPLOY / "prometheus" / file).is_file()
    boards = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/quietbeam.yml").read_text())["providers"][0]
    mounts = {volume.split(":")[1] for volume in grafana["volumes"]}
    assert boards["options"]["path"] in mounts and "/etc/grafana/provisioning" in mounts
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


# --- promtool -------------------------------------------------------------------------------------------------------

WELL = {
    'up{job="quietbeam",instance="q"}': "1",
    'up{job="tiled",instance="t"}': "1",
    'quietbeam_redis_up{instance="q"}': "1",
    'quietbeam_stage_up{instance="q",stage="worker"}': "1",
    'quietbeam_open_run_data_age_seconds{instance="q"}': "2",
    'quietbeam_documents_waiting{instance="q"}': "5",
    'quietbeam_documents_quarantined_total{instance="q"}': "7",
    'quietbeam_redis_memory_bytes{instance="q"}': "1",
    'quietbeam_redis_memory_limit_bytes{instance="q"}': "10",
    'quietbeam_disk_free_bytes{instance="q"}': "50",
    'quietbeam_disk_size_bytes{instance="q"}': "100",
    'quietbeam_row_commit_seconds{instance="q"}': "0.01",
    'quietbeam_rows_committed_total{instance="q"}': "0+30x90",
    'quietbeam_frame_latency_seconds{instance="q"}': "0.3",
    'quietbeam_maps_denoised_total{instance="q"}': "0+30x90",
    'quietbeam_denoise_failures_total{instance="q"}': "1",
    'quietbeam_tiled_publish_failures_total{instance="q"}': "3",
    'quietbeam_request_duration_seconds_bucket{instance="q",le="1"}': "0+100x90",
    'quietbeam_request_duration_seconds_bucket{instance="q",le="3"}': "0+100x90",
    'quietbeam_request_duration_seconds_bucket{instance="q",le="+Inf"}': "0+100x90",
    'quietbeam_event_viewers_dropped_total{instance="q"}': "0",
}
TROUBLE = {
    "QuietbeamDown": {'up{job="quietbeam",instance="q"}': "0"},
    "QuietbeamRedisDown": {
        'quietbeam_redis_up{instance="q"}': "0",
        'quietbeam_stage_up{instance="q",stage="worker"}': "0",
    },
    "QuietbeamStageSilent": {'quietbeam_stage_up{instance="q",stage="worker"}': "0"},
    "QuietbeamNoData": {'quietbeam_open_run_data_age_seconds{instance="q"}': "0+60x90"},
    "QuietbeamDocumentsWaiting": {'quietbeam_documents_waiting{instance="q"}': "0+100x90"},
    "QuietbeamDocumentsQuarantined": {'quietbeam_documents_quarantined_total{instance="q"}': "0+1x90"},
    "QuietbeamRedisNearlyFull": {'quietbeam_redis_memory_bytes{instance="q"}': "9"},
    "QuietbeamDiskNearlyFull": {'quietbeam_disk_free_bytes{instance="q"}': "100-0.5x90"},
    "QuietbeamSlowDisk": {'quietbeam_row_commit_seconds{instance="q"}': "2"},
    "QuietbeamMapsLate": {'quietbeam_frame_latency_seconds{instance="q"}': "9"},
    "QuietbeamNotDenoising": {'quietbeam_maps_denoised_total{instance="q"}': "30"},
    "QuietbeamDenoiserFailed": {'quietbeam_denoise_failures_total{instance="q"}': "0+1x90"},
    "QuietbeamTiledFailing": {'quietbeam_tiled_publish_failures_total{instance="q"}': "0+5x90"},
    "QuietbeamSlowAnswers": {'quietbeam_request_duration_seconds_bucket{instance="q",le="1"}': "0+90x90"},
    "QuietbeamViewersDropped": {'quietbeam_event_viewers_dropped_total{instance="q"}': "0+1x90"},
    "TiledDown": {'up{job="tiled",instance="t"}': "0"},
}


def cases() -> Iterator[dict[str, Any]]:
    """Yield a test for promtool: all is well, then each trouble, in which exactly its own alert fires."""
    for trouble in (None, *TROUBLE):
        series = WELL | (TROUBLE[trouble] if trouble else {})
        fires = 'count by (alertname) (ALERTS{alertstate="firing"})'
        expected = [{"labels": f'{{alertname="{trouble}"}}', "value": 1}] if trouble else []
        yield {
            "interval": "1m",
            "input_series": [
                {"series": name, "values": values if "x" in values else f"{values}x90"}
                for name, values in series.items()
            ],
            "promql_expr_test": [{"expr": fires, "eval_time": "80m", "exp_samples": expected}],
        }


def test_there_is_a_trouble_for_every_alert() -> None:
    assert set(TROUBLE) == {rule["alert"] for rule in rules()}


@promtool
def test_each_alert_fires_in_its_trouble_and_none_when_all_is_well(tmp_path: Path) -> None:
    file = tmp_path / "alerts.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": list(cases())}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_promtool_takes_config_and_rules() -> None:
    for words in (["config", "--syntax-only"], ["rules"]):
        file = RULES if words == ["rules"] else DEPLOY / "prometheus/prometheus.yml"
        done = subprocess.run(["promtool", "check", *words, str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

"""docs/reference/monitoring.md, made from a real ``/metrics`` and from the alert rules.

``python -m tests.monitoring_page`` writes the page; tests/service/test_monitoring.py fails when it is out of date.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from quietbeam.core.process.stage import heartbeat
from quietbeam.core.settings import RedisSettings, ServeSettings, Settings
from quietbeam.core.wire.bus import connect
from quietbeam.serve import create_app

from .browser.synthetic_run import SyntheticRun
from .conftest import ValkeyProcess

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "monitoring.md"
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus/alerts.yml"
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
GRAFANA = json.loads((DEPLOY / "grafana/dashboards/quietbeam.json").read_text())
PANELS = [panel for panel in GRAFANA["panels"] if panel["type"] != "row"]
_HEAD = """# Metrics and alerts

Made by `python -m tests.monitoring_page` from what `/metrics` says and from `deploy/prometheus/alerts.yml`.
How to use them: [watch quietbeam](../how-to/monitor.md).

## Metrics

One scrape of `serve` gives those of every stage; a run's uid is never a label. `quietbeam_open_run_...` are there while
a run goes on (several at once: the newest).

| metric | kind | meaning, and what to do |
|---|---|---|
"""


def scrape(settings: Settings) -> list[Metric]:
    """Return what ``/metrics`` says while a run goes on."""
    connection = connect(settings.redis_url)
    run = SyntheticRun(settings.runs_dir, connection, shape=(12, 10), lines=("Fe_Ka", "Zn_Ka"))
    run.add_rows(8)
    run.denoise()
    heartbeat(connection, "ingest")
    connection.close()
    with TestClient(create_app(settings), headers={"Authorization": "Apikey key-of-the-test"}) as client:
        client.get("/healthz")
        return families(client.get("/metrics").raise_for_status().text)


def families(text: str) -> list[Metric]:
    """Return the metrics of a scrape; counters with the name that their samples have."""
    found = [metric for metric in text_string_to_metric_families(text) if not metric.name.endswith("_created")]
    for metric in found:
        if metric.type == "counter":
            metric.name += "_total"
    return found


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    """Return what the rules and the panels ask Prometheus."""
    shown = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return [rule["expr"] for rule in rules()] + shown


def asked_for(query: str) -> set[str]:
    """Return the metrics of ours in a query."""
    return set(re.findall(r"\bquietbeam_[a-z0-9_]+", query))


def sample_names(metrics: list[Metric]) -> set[str]:
    """Return every name that a query may use."""
    return {sample.name for metric in metrics for sample in metric.samples}


def page(metrics: list[Metric]) -> str:
    """Return the page."""
    table = [f"| `{metric.name}` | {metric.type} | {metric.documentation} |" for metric in metrics]
    told = []
    for rule in rules():
        notes, wait = rule["annotations"], f" for {rule['for']}" if "for" in rule else ""
        when = f"`{rule['expr']}`{wait} ({rule['labels']['severity']})"
        told.append(
            f"### {rule['alert']}\n\n{notes['summary']}\n\n- **When**: {when}\n"
            f"- **Effect**: {notes['effect']}\n- **Do**: {notes['action']}\n"
        )
    severities = (
        "`page`: somebody looks now, a scan is in danger. `ticket`: look today. `info`: good to know. "
        "`{{ }}` is filled in by Prometheus.\n"
    )
    return _HEAD + "\n".join(table) + "\n\n## Alerts\n\n" + severities + "\n" + "\n".join(told)


def main() -> None:
    """Write the page."""
    valkey = ValkeyProcess()
    valkey.start()
    with tempfile.TemporaryDirectory(prefix="qb-metrics-") as folder:
        settings = Settings(
            data_dir=Path(folder),
            redis=RedisSettings(url=valkey.url),
            serve=ServeSettings(api_key="key-of-the-test"),  # type: ignore[arg-type]
        )
        PAGE.write_text(page(scrape(settings)))
    valkey.close()


if __name__ == "__main__":
    main()

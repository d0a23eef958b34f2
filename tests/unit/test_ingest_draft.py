"""Drafts of profiles: keys of any beamline's own names, and questions about what no document says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from quietbeam.cli import app
from quietbeam.ingest.profile.key_families import emission_line, incident_flux, line_family
from quietbeam.ingest.profile.schema import load_profile


def test_the_draft_of_a_beamline_with_names_of_its_own_reads_its_run(tmp_path: Path) -> None:
    from bluesky import RunEngine
    from bluesky.plans import grid_scan
    from ophyd.sim import SynAxis, SynSignal

    rng = np.random.default_rng(5)
    slow, fast = SynAxis(name="stage_v"), SynAxis(name="stage_h")
    names = [f"vortex_e{d}_{line}" for d in (1, 2, 3) for line in ("fe", "cu", "pt")]
    devices = [SynSignal(name=name, func=lambda: int(rng.poisson(20))) for name in [*names, "izero_val"]]
    recorded: list[tuple[str, dict[str, Any]]] = []
    RunEngine({})(
        grid_scan(devices, slow, 0, 3, 4, fast, 0, 4, 5, snake_axes=True),
        lambda name, doc: recorded.append((name, dict(doc))),
    )
    path, draft = tmp_path / "run.jsonl", tmp_path / "mine.yaml"
    path.write_text("".join(json.dumps(one) + "\n" for one in recorded), encoding="utf-8")
    done = CliRunner().invoke(app, ["profile", "check", str(path), "--draft", str(draft)])
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "4 rows x 5 columns, snake" in text and "Fe_Ka, Cu_Ka, Pt_La" in text and "e1, e2, e3" in text
    profile = load_profile(draft)
    assert profile.i0 is not None and profile.i0.key == "izero_val"
    for question in ("is izero_val the incident flux?", "which keys are the live times", "geometry.order: is"):
        assert question in text


@pytest.mark.parametrize(
    ("keys", "pattern"),
    [
        (
            [f"sdd_{d}_{line}" for d in "abc" for line in ("FeKa", "CuKa")],
            r"^sdd_(?P<detector>a|b|c)_(?P<line>FeKa|CuKa)$",
        ),
        ([f"{line}_ka_ch{d}" for d in (1, 2) for line in ("fe", "zn")], r"^(?P<line>fe_ka|zn_ka)_(?P<detector>ch\d+)$"),
        (["vortex:Fe", "vortex:Cu", "vortex:rate"], r"^(?P<detector>vortex):(?P<line>Fe|Cu)$"),
        (["sample_x", "sample_y", "sample_z"], None),
        (["det1_fe", "det2_cu"], None),
        (["fe", "i0"], None),
    ],
)
def test_families_of_keys_over_detectors_and_lines(keys: list[str], pattern: str | None) -> None:
    family = line_family([*keys, "izero_val", "seq_num", "motor_v"])
    assert (family.pattern if family else None) == pattern


def test_words_that_name_lines() -> None:
    assert [emission_line(word) for word in ("fe", "FeKa", "pt", "Pt_L", "as", "cd", "x", "roi", "e1", "sample")] == [
        "Fe_Ka", "Fe_Ka", "Pt_La", "Pt_La", "As_Ka", "Cd_La", "", "", "", "",
    ]  # fmt: skip


def test_the_likeliest_incident_flux_comes_first() -> None:
    keys = ["dwell", "motion", "mon_sum", "sclr1_ch4", "ic2", "izero_val", "ionic_fit"]
    assert incident_flux(keys) == ["izero_val", "sclr1_ch4", "ic2", "mon_sum"]
    assert incident_flux(["beam_I0"]) == ["beam_I0"]

"""A run is pinned, denoised again and deleted over REST in a whole installation, as an operator does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quietbeam_models.weights import DEFAULT, available

from .conftest import Installation, wait_until

pytestmark = pytest.mark.system


def test_a_run_is_pinned_denoised_again_and_deleted(installation: Installation, tmp_path: Path) -> None:
    known = set(installation.uids())
    scan = installation.scan(tmp_path / "truth.npz", "--shape", "12x16", "--dwell", "0.005", "--counts", "8")
    uid = installation.new_run(known)
    installation.finished(scan)
    installation.final(uid)
    container = installation.tiled()[installation.settings.tiled.root]
    assert container[uid].metadata["evidence"]["model"] == DEFAULT

    with installation.http() as http:

        def ask(method: str, path: str, **options: Any) -> Any:
            answer = http.request(method, f"/api/v1/runs/{uid}{path}", **options)
            assert answer.status_code == 202, answer.text

            def settled() -> Any:
                found = http.get(answer.headers["location"]).raise_for_status().json()["data"]["attributes"]
                return found if found["state"] in ("done", "failed") else None

            action = wait_until(settled, 120, f"{method} {path}")
            assert action["state"] == "done", action
            return action

        ask("PUT", "/pin")
        assert http.delete(f"/api/v1/runs/{uid}").status_code == 409
        ask("DELETE", "/pin")

        ask("POST", "/denoise", json={"weights": available()[0], "budget_s": 1})
        installation.final(uid)
        wait_until(
            lambda: container[uid].metadata["evidence"]["model"] == available()[0], 60, "the new evidence in Tiled"
        )
        assert (container[uid]["denoised"].read() == installation.buffer(uid).read_map("denoised")).all()

        ask("DELETE", "")
        assert http.get(f"/api/v1/runs/{uid}").status_code == 404
    assert uid not in container
    assert not [path for path in installation.settings.runs_dir.iterdir() if uid in path.name]

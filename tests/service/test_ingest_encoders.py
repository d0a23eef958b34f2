"""Positions of encoders, which are not data keys of the plan's motors, check and mend the order of the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from quietbeam.core.model.types import PixelOrder, RunState
from quietbeam.files import read_map
from quietbeam.ingest.offline import ingest_recorded
from quietbeam.ingest.offline.assemble import RecordedRun
from quietbeam.ingest.profile import load_profile

ROWS, COLS = 5, 12
UID = "fly"
TRUTH = 1000 + 37 * np.arange(ROWS)[:, None] + np.arange(COLS)
"""Counts by (row, col) of the sample."""


def scanned(snake: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, slow and fast positions [encoder counts] of each row in the order of acquisition."""
    col = np.tile(np.arange(COLS), (ROWS, 1))
    if snake:
        col[1::2] = col[1::2, ::-1]
    row = np.tile(np.arange(ROWS)[:, None], COLS)
    jitter = np.random.default_rng(1).integers(-60, 60, (2, ROWS, COLS))
    return TRUTH[row, col], 4000 * row + jitter[0], 2000 * col - 9000 + jitter[1]


def documents(
    keys: dict[str, np.ndarray],
    counts: np.ndarray,
    *,
    announced_snake: bool = False,
    units: str = "",
    motors: tuple[str, ...] = ("sample_y", "sample_x"),
    streamed: Path | None = None,
) -> list[tuple[str, dict[str, Any]]]:
    """A fly scan: an Event a row, or with `streamed` the encoders in an HDF5 file."""
    start = {
        "uid": UID,
        "time": 0.0,
        "plan_name": "fly",
        "shape": [ROWS, COLS],
        "snaking": [False, announced_snake],
        "extents": [[0, 4], [0, 11]],
        "motors": list(motors),
        "hints": {"dimensions": [[[motor], "primary"] for motor in motors]},
    }
    row = {"dtype": "array", "shape": [COLS], "source": "test"}
    if units:
        row["units"] = units
    data_keys = {"det1_Fe_Ka": row} | dict.fromkeys(keys, row)
    docs: list[tuple[str, dict[str, Any]]] = [("start", start)]
    if streamed is not None:
        for key in keys:
            data_keys[key] = row | {"external": "STREAM:"}
        with h5py.File(streamed, "w") as file:
            for key, values in keys.items():
                file[key] = values.reshape(-1)
    descriptor = {"uid": "d", "run_start": UID, "name": "primary", "time": 0.0, "data_keys": data_keys}
    docs.append(("descriptor", descriptor))
    in_events = keys if streamed is None else {}
    for n in range(ROWS):
        data = {"det1_Fe_Ka": counts[n]} | {key: values[n] for key, values in in_events.items()}
        docs.append(("event", {"uid": f"e{n}", "descriptor": "d", "seq_num": n + 1, "time": float(n), "data": data}))
    for key in keys if streamed is not None else ():
        resource = {"uid": key, "run_start": UID, "data_key": key, "mimetype": "application/x-hdf5"}
        docs.append(
            ("stream_resource", resource | {"uri": f"file://localhost{streamed}", "parameters": {"dataset": key}})
        )
        datum = {"uid": f"{key}/0", "stream_resource": key, "descriptor": "d"}
        whole = {"indices": {"start": 0, "stop": ROWS}, "seq_nums": {"start": 1, "stop": ROWS + 1}}
        docs.append(("stream_datum", datum | whole))
    return [
        *docs,
        (
            "stop",
            {"uid": "s", "run_start": UID, "time": 9.0, "exit_status": "success", "num_events": {"primary": ROWS}},
        ),
    ]


def ingest(docs: list[tuple[str, dict[str, Any]]], folder: Path, **geometry: Any) -> RecordedRun:
    profile = {
        "name": "fly",
        "counts": {"keys": r"^(?P<detector>det\d)_(?P<line>\w+)$"},
        "geometry": {
            "shape": {"start": "shape"},
            "snake": {"start": "snaking"},
            "extents": {"start": "extents"},
            **geometry,
        },
    }
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(profile))
    run, refused = ingest_recorded(docs, UID, [load_profile(path)], [folder], folder / "scratch")
    assert not refused
    return run


def counts_of(run: RecordedRun) -> np.ndarray:
    assert run.buffer is not None
    return run.buffer.read_counts()[0, 0]


NAMES = [
    ("sample_y_enc", "sample_x_enc"),  # of the motors
    ("y_readback", "x_readback"),  # of their axes
]


@pytest.mark.supports(
    "geometry", "fly scans with encoders that are no keys of the motors: the order is checked and mended"
)
@pytest.mark.parametrize("slow, fast", NAMES)
@pytest.mark.parametrize("where", ["events", "file"])
def test_encoders_with_the_names_of_the_motors_decide(slow: str, fast: str, where: str, tmp_path: Path) -> None:
    for snake in (False, True):
        folder = tmp_path / str(snake)
        folder.mkdir()
        counts, y, x = scanned(snake)
        streamed = folder / "enc.h5" if where == "file" else None
        run = ingest(documents({slow: y, fast: x}, counts, announced_snake=False, streamed=streamed), folder)
        assert run.state is RunState.COMPLETE and run.info is not None
        assert run.info.order is (PixelOrder.FROM_POSITIONS if snake else PixelOrder.VERIFIED)
        np.testing.assert_array_equal(counts_of(run), TRUTH)


def test_encoder_counts_are_no_coordinates_but_lengths_are(tmp_path: Path) -> None:
    counts, y, x = scanned(False)
    run = ingest(documents({"y_readback": y, "x_readback": x}, counts), tmp_path)
    assert run.info is not None and run.buffer is not None
    assert run.info.step == (1.0, 1.0) and run.info.units == "um"
    axes = read_map(run.buffer.path).axes
    assert axes is not None and axes.positions is None
    (tmp_path / "mm").mkdir()
    run = ingest(documents({"y_readback": y / 1e6, "x_readback": x / 1e6}, counts, units="mm"), tmp_path / "mm")
    assert run.info is not None and run.info.units == "mm"
    assert run.info.step == pytest.approx((4e-3, 2e-3), rel=0.02)


def test_a_contradicted_order_has_no_coordinates_of_encoders_without_unit(tmp_path: Path) -> None:
    counts, y, x = scanned(True)
    run = ingest(documents({"y_readback": y, "x_readback": x}, counts), tmp_path)
    assert run.info is not None and run.info.order is PixelOrder.FROM_POSITIONS
    assert run.info.step is None and run.info.origin is None


def test_one_encoder_of_the_fast_motor_is_enough(tmp_path: Path) -> None:
    for snake in (False, True):
        folder = tmp_path / str(snake)
        folder.mkdir()
        counts, _, x = scanned(snake)
        run = ingest(documents({"zebra_sample_x_enc": x}, counts), folder)
        assert run.info is not None
        assert run.info.order is (PixelOrder.FROM_POSITIONS if snake else PixelOrder.VERIFIED)
        np.testing.assert_array_equal(counts_of(run), TRUTH)


def test_the_profile_names_the_encoders(tmp_path: Path) -> None:
    counts, y, x = scanned(True)
    keys = {"zebra_pos1_enc": y, "zebra_pos2_enc": x, "zebra_pos3_enc": x}
    encoders = {
        "slow": {"key": "zebra_pos1_enc", "scale": 2.5e-4},
        "fast": {"key": "zebra_pos2_enc", "scale": 5e-4},
    }
    run = ingest(documents(keys, counts), tmp_path, encoders=encoders)
    assert run.info is not None and run.info.order is PixelOrder.FROM_POSITIONS
    np.testing.assert_array_equal(counts_of(run), TRUTH)
    assert run.info.step == pytest.approx((1.0, 1.0), rel=0.03) and run.info.units == "um"


def test_numbered_encoders_check_the_order_but_do_not_change_it(tmp_path: Path) -> None:
    for snake in (False, True):
        folder = tmp_path / str(snake)
        folder.mkdir()
        counts, y, x = scanned(snake)
        run = ingest(documents({"zebra_pos1_enc": x, "zebra_pos2_enc": y}, counts), folder)
        assert run.info is not None and run.state is RunState.COMPLETE
        assert run.info.order is (PixelOrder.ASSUMED if snake else PixelOrder.VERIFIED)
        said = [
            text for text in run.warnings if "zebra_pos2_enc and zebra_pos1_enc contradict the announced order" in text
        ]
        assert bool(said) is snake


def test_encoders_that_no_name_tells_apart_are_named_in_a_warning(tmp_path: Path) -> None:
    counts, y, x = scanned(False)
    run = ingest(documents({"enc1": x, "enc2": y, "enc3": y}, counts), tmp_path)
    assert run.info is not None and run.info.order is PixelOrder.ASSUMED
    assert any("enc1, enc2, enc3" in text and "geometry.encoders" in text for text in run.warnings)


def test_encoders_can_be_left_alone(tmp_path: Path) -> None:
    counts, y, x = scanned(True)
    run = ingest(documents({"y_readback": y, "x_readback": x}, counts), tmp_path, encoders={"used": False})
    assert run.info is not None and run.info.order is PixelOrder.ASSUMED and not run.info.has_positions

"""Advice on the dwell: figures against the definition, and silence where nothing can be said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietbeam.core.model.advice import LineAdvice, advise
from quietbeam.core.model.evidence import LineEvidence, RunEvidence
from quietbeam.core.model.types import RunInfo

INFO = RunInfo(uid="u", lines=("Fe_Ka",), detectors=("det1",), shape=(40, 50), dwell_s=0.02)
GOOD = LineEvidence(
    line="Fe_Ka", estimator="combined", verdict="improved", dwell_gain=10.0, dwell_gain_low=8.0, mean_counts=6.25
)


def one(snr: float, info: RunInfo = INFO, kind: Any = "counts", **values: Any) -> LineAdvice:
    return advise(info, RunEvidence(rows=40, lines=(replace(GOOD, **values),), kind=kind), snr).lines[0]


def test_snr_is_the_mean_over_the_root_mean_squared_error() -> None:
    rng = np.random.default_rng(5)
    truth = rng.uniform(1, 30, (400, 400))
    raw = rng.poisson(truth)
    denoised = truth + rng.normal(0, 1.2, truth.shape)
    mse_raw, mse_denoised = np.mean((raw - truth) ** 2), np.mean((denoised - truth) ** 2)
    found = one(10, mean_counts=float(raw.mean()), dwell_gain=mse_raw / mse_denoised)
    assert found.snr_raw == pytest.approx(truth.mean() / np.sqrt(mse_raw), rel=0.01)
    assert found.snr_denoised == pytest.approx(truth.mean() / np.sqrt(mse_denoised), rel=0.01)


def test_what_raw_takes_is_counting_statistics() -> None:
    found = one(10)
    assert found.snr_raw == 2.5
    assert found.factor_raw == 16
    assert found.passes_raw == 16
    assert found.dwell_raw_s == pytest.approx(0.32)
    assert found.reason == ""


def test_what_the_denoised_map_takes_rests_on_the_lower_bound_and_lets_the_gain_fall() -> None:
    found = one(10)
    assert found.snr_denoised == pytest.approx(2.5 * np.sqrt(10))
    assert found.snr_denoised_low == pytest.approx(2.5 * np.sqrt(8))
    factor = found.factor_denoised
    assert factor is not None
    assert factor == pytest.approx(2 ** (1 / 0.65))
    assert 6.25 * factor * 8.0 * factor**-0.35 == pytest.approx(10**2)
    assert found.passes_denoised == 3
    assert found.dwell_denoised_s == pytest.approx(0.02 * factor)
    reached = one(5)
    assert reached.factor_denoised == 0.5
    assert reached.passes_denoised == 1
    assert reached.factor_raw == 4


def test_denoising_is_never_said_to_take_longer_than_raw() -> None:
    far = one(1000)
    assert far.factor_denoised == far.factor_raw
    doubtful = one(2.5, dwell_gain_low=0.9)
    assert doubtful.factor_denoised == doubtful.factor_raw == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"estimator": "raw", "verdict": "kept_raw", "dwell_gain": 1.0, "dwell_gain_low": None},
            "no estimate proved better",
        ),
        ({"verdict": "not_tested"}, "not tested"),
        ({"dwell_gain": None, "dwell_gain_low": None}, "not measured"),
        ({"dwell_gain_low": None}, "not measured"),
        ({"dwell_gain_low": 0.0}, "not measured"),
    ],
)
def test_without_proof_only_raw_is_advised(values: dict[str, Any], words: str) -> None:
    found = one(10, **values)
    assert words in found.reason
    assert found.factor_raw == 16
    assert found.snr_denoised is None
    assert found.factor_denoised is None
    assert found.passes_denoised is None


@pytest.mark.parametrize("mean", [0.0, 0.049, -1.0, float("nan")])
def test_a_line_without_signal_gets_a_sentence_and_no_number(mean: float) -> None:
    found = one(10, mean_counts=mean)
    assert "too few counts yet" in found.reason
    assert found == LineAdvice(line="Fe_Ka", reason=found.reason)


def test_fitted_areas_get_no_number() -> None:
    found = one(10, kind="areas")
    assert found == LineAdvice(line="Fe_Ka", reason=found.reason)
    assert "areas" in found.reason


def test_passes_are_told_where_the_dwell_is_unknown() -> None:
    found = one(10, info=replace(INFO, dwell_s=None))
    assert found.dwell_raw_s is None
    assert found.dwell_denoised_s is None
    assert found.passes_raw == 16


@given(
    snr=st.floats(0.1, 1000),
    mean=st.floats(0.06, 1e6),
    low=st.floats(1, 500),
    more=st.floats(1, 10),
    ask=st.floats(1.01, 5),
)
def test_a_higher_snr_never_takes_less(snr: float, mean: float, low: float, more: float, ask: float) -> None:
    values = {"mean_counts": mean, "dwell_gain_low": low, "dwell_gain": low * more}
    found, higher = one(snr, **values), one(snr * ask, **values)
    assert found.factor_denoised is not None
    assert found.factor_raw is not None
    assert found.passes_denoised is not None
    assert higher.factor_denoised is not None
    assert 0 < found.factor_denoised <= found.factor_raw * (1 + 1e-9)
    assert higher.factor_denoised >= found.factor_denoised
    assert found.passes_denoised >= found.factor_denoised * (1 - 1e-9)
    assert found.factor_denoised_likely is not None
    assert found.factor_denoised_likely <= found.factor_denoised * (1 + 1e-9)


def test_advice_is_plain_json() -> None:
    data = advise(INFO, RunEvidence(rows=40, lines=(GOOD,), final=True), 10).to_dict()
    assert orjson.loads(orjson.dumps(data)) == data
    assert data["final"]
    assert data["lines"][0]["passes_raw"] == 16

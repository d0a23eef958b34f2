"""Rows are served while a long computation runs, and never from inside themselves."""

import pytest

from quietbeam.denoiser import cooperative
from quietbeam.denoiser.cooperative import CooperativeSchedule


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch) -> CooperativeSchedule:
    monkeypatch.setattr(cooperative, "INTERVAL_S", 0.0)
    return CooperativeSchedule()


def test_what_the_callback_computes_is_not_interrupted(schedule: CooperativeSchedule) -> None:
    calls: list[object] = []

    def serve() -> None:
        calls.append(schedule.yield_callback)
        schedule.yield_now()
        hooks[0]()  # a layer of the interrupted computation that the callback runs, too

    with schedule.serving(serve):
        hooks = [schedule.yield_callback]
        schedule.yield_now()
    assert calls == [None] and schedule.yield_callback is None
    schedule.yield_now()
    assert len(calls) == 1


def test_a_step_without_a_callback_of_its_own_is_interrupted_by_the_outer_one(schedule: CooperativeSchedule) -> None:
    calls: list[int] = []
    with schedule.serving(lambda: calls.append(1)):
        with schedule.serving(None):
            schedule.yield_now()
        assert calls == [1] and schedule.yield_callback is not None


def test_an_error_of_the_callback_ends_the_computation(schedule: CooperativeSchedule) -> None:
    def fail() -> None:
        raise ConnectionError("Redis is unavailable")

    with pytest.raises(ConnectionError), schedule.serving(fail):
        schedule.yield_now()
    assert schedule.yield_callback is None

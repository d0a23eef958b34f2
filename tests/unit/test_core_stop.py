"""Stops by signal: none deadlocks, none is missed, a second one ends the process at once."""

import signal
import subprocess
import sys
import time
from threading import Thread

import pytest

from quietbeam.core.process.stop import StoppedError, StopRequest

_STOPS = """
import os, random, signal, threading, time
from quietbeam.core.process.stop import stop_on_signals

random.seed(1)
for _ in range(300):
    stop = stop_on_signals()
    number = random.choice([signal.SIGTERM, signal.SIGINT])
    threading.Timer(random.uniform(0, 0.004), os.kill, (os.getpid(), number)).start()
    while not stop.is_set():
        stop.wait(random.choice([0, 0, 0, 0.0001]))
    assert stop.signal == number
print("stopped 300 times")
"""


def test_300_stops_at_random_moments_end_the_wait() -> None:
    out = subprocess.run([sys.executable, "-c", _STOPS], capture_output=True, text=True, timeout=60, check=False)
    assert out.stdout == "stopped 300 times\n", out.stderr


def test_a_stop_ends_a_long_wait_of_another_thread() -> None:
    stop = StopRequest()
    waiting = Thread(target=stop.wait, args=(60,))
    waiting.start()
    stop.set()
    waiting.join(5)
    assert not waiting.is_alive() and stop.is_set()


def test_a_wait_without_a_stop_takes_its_time() -> None:
    started = time.monotonic()
    assert not StopRequest().wait(0.12)
    assert 0.12 <= time.monotonic() - started < 5


def test_a_signal_ends_a_process_at_once_while_nothing_is_in_hand() -> None:
    code = (
        "import os, signal\nfrom quietbeam.core.process.stop import stop_on_signals\nstop = stop_on_signals()\n"
        "stop.at_once = True\nos.kill(os.getpid(), signal.SIGTERM)\nprint('still here')"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (out.returncode, out.stdout) == (0, "")


def test_a_check_raises_once_the_stop_was_asked_for() -> None:
    stop = StopRequest()
    stop.check()
    stop.set()
    with pytest.raises(StoppedError):
        stop.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_that_does_not_stop(number: signal.Signals) -> None:
    code = (
        "import time\nfrom quietbeam.core.process.stop import stop_on_signals\nstop = stop_on_signals()\n"
        "print('ready', flush=True)\nstop.wait(60)\nprint('stopping', flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.send_signal(number)  # at once: the same request
        assert process.stdout.readline() == "stopping\n"
        time.sleep(1.1)
        process.send_signal(number)
        assert process.wait(10) == 128 + number

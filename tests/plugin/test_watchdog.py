import subprocess
import sys
import time

from vqathinker_verl.plugin.watchdog import EXIT_CODE, Watchdog


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_a_stuck_phase_is_named_with_its_limit():
    messages = []
    watchdog = Watchdog(3600, start_seconds=3600, on_expiry=messages.append)
    watchdog.enter("weight sync", 0.1)
    assert wait_for(lambda: messages)
    assert "weight sync" in messages[0]
    assert "vqathinker.watchdog" in messages[0]


def test_progress_keeps_it_quiet_and_the_general_limit_returns():
    messages = []
    watchdog = Watchdog(3600, start_seconds=3600, on_expiry=messages.append)
    with watchdog.phase("weight sync", 0.8):
        pass
    time.sleep(1.5)
    assert messages == []
    watchdog.stop()


def test_a_start_has_a_limit_of_its_own():
    messages = []
    watchdog = Watchdog(0.1, start_seconds=1.5, on_expiry=messages.append)
    time.sleep(1)
    assert messages == []
    assert wait_for(lambda: messages)
    assert "phase 'start'" in messages[0]
    assert "limit 2 s" in messages[0]
    watchdog.stop()


def test_it_ends_a_process_that_waits_for_ever():
    script = (
        "import threading\n"
        "from vqathinker_verl.plugin.watchdog import Watchdog\n"
        "Watchdog(3600, start_seconds=3600).enter('weight sync', 0.1)\n"
        "threading.Event().wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == EXIT_CODE
    assert "watchdog: no progress in phase 'weight sync'" in done.stderr
    assert "Thread" in done.stderr  # where it was stuck

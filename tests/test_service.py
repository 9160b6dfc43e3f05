"""The supervisor's process ends with its driver, in the middle of whatever it does.

Real processes: a driver that is killed with SIGKILL, and its child, which is at work for a minute.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_DRIVER = """
import multiprocessing, os, sys, time
from supervisor.service import end_with_the_driver

def judge(told, watches):
    if watches:
        end_with_the_driver()
    told.send(os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=judge, args=(theirs, sys.argv[1] == "watches")).start()
    print(ours.recv(), flush=True)
    time.sleep(60)
"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize("watches", [True, False])
def test_a_killed_drivers_supervisor_is_gone_at_once(watches: bool, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(_DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), "watches" if watches else "sleeps"]
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert driver.stdout is not None
        child = int(driver.stdout.readline())
    finally:
        driver.kill()
        driver.wait()
        if driver.stdout is not None:
            driver.stdout.close()
    deadline = time.monotonic() + (10 if watches else 1)
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    still = _alive(child)
    if still:
        os.kill(child, signal.SIGKILL)
    assert still is not watches  # without the watch it works on: the test can fail

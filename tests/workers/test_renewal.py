"""workers.renewal: the trial of new code and settings ends with the arbiter that asked for it."""

from __future__ import annotations

import subprocess
import sys

#: It forks a trial that hangs; both have the pipe of its standard output.
ARBITER = """
import os, pickle, time
from fs9.config import Settings
from workers import renewal

settings_fd = renewal._memory(pickle.dumps(Settings()))
question = renewal._Question(settings_fd, renewal._memory(), os.getpid())
if not os.fork():
    renewal.rehearse(question, lambda: time.sleep(600))
print("forked", flush=True)
time.sleep(600)
"""


def test_a_trial_does_not_outlive_a_killed_arbiter() -> None:
    with subprocess.Popen([sys.executable, "-c", ARBITER], stdout=subprocess.PIPE) as arbiter:
        assert arbiter.stdout is not None
        assert arbiter.stdout.readline() == b"forked\n"
        arbiter.kill()
        said, _ = arbiter.communicate(timeout=60)  # to the end: nobody has the pipe any more
    assert said == b""

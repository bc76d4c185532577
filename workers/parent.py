"""Makes a process end when its parent ends, even by SIGKILL.

Otherwise it would go on serving, and the next fleet could not bind the address.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def leave_with(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when its parent is gone (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # before that was said
        os.kill(os.getpid(), signal.SIGTERM)

"""What stands in for a step's work in a child process that dies, or refuses."""

import os
import signal

from parapet.errors import InputError


def die(**_: object) -> None:
    """As the kernel does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(**_: object) -> None:
    """A failure that concerns every candidate."""
    raise InputError("the data set is gone; run data_prep again.")

"""What a worker of `parapet train` does in the tests of its real child: dies in an epoch, or waits, as PLANTED says."""

import os
import signal
import time
from typing import Any

from parapet.steps import train
from parapet.training import loop


def work(**arguments: Any) -> dict[str, Any]:
    """The honest work, until epoch 2."""
    how, honest = os.environ["PLANTED"], loop.train_epoch

    def epoch(*values: Any) -> Any:
        if values[-1] == 1:
            if how == "wait":
                time.sleep(600)
            if how == "fault":
                raise ZeroDivisionError("a planted bug, token=hunter2hunter2")
            if how == "memory":
                raise MemoryError
            os.write(2, b"double free or corruption (out)\n")
            os.kill(os.getpid(), getattr(signal, how))
        return honest(*values)
    loop.train_epoch = epoch
    return train.work(**arguments)

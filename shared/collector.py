"""The garbage collector, told what it need not look at."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def made_for_good() -> Iterator[None]:
    """Whatever is made in here stays as long as the process.

    The collector does not look at it, neither meanwhile (a tenth of a room's start) nor ever after.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

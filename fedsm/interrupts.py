"""Ctrl-C and SIGTERM, remembered where Python could lose them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def remembered(interrupted: threading.Event) -> Iterator[None]:
    """Set ``interrupted`` at each signal that raises ``KeyboardInterrupt``.

    Python raises it wherever the main thread is, be it in a finalizer or in a caller's ``except``
    that swallows it.
    """
    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [
            number
            for number in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(number) is signal.default_int_handler
        ]

    def handle(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.default_int_handler)

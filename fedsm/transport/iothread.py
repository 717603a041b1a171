"""The process's one I/O thread: an asyncio loop that all grids and sessions share.

grpc.aio serves one loop per process well; several loops steal one another's wake-ups.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def loop() -> asyncio.AbstractEventLoop:
    """The shared loop, started with its daemon thread at first use."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="fedsm-io", daemon=True).start()
        return _loop


def start(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the shared loop."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop())

"""A TCP proxy whose faults are switched on and off: reset, black hole, slow link, refusal."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress


class FaultProxy:
    """Forward connections to ``127.0.0.1:port``.

    Attributes
    ----------
    passed : int
        Bytes forwarded so far, both ways.
    rate : float
        Bytes a second and direction; 0 for no limit.
    refuse : bool
        Reset new connections.
    """

    def __init__(self, port: int) -> None:
        self.passed = 0
        self.rate = 0.0
        self.refuse = False
        self._open = threading.Event()
        self._open.set()
        self._upstream = port
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def black_hole(self, on: bool) -> None:
        """Keep connections but let no byte pass."""
        if on:
            self._open.clear()
        else:
            self._open.set()

    def reset(self) -> None:
        """Reset all connections, at both ends."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            _abort(each)

    def close(self) -> None:
        self._open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.refuse:
                    _abort(near)
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._upstream))
                except OSError:
                    _abort(near)
                    continue
                with self._lock:
                    self._sockets |= {near, far}
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(16 << 10):
                self._open.wait()
                if self.rate:
                    time.sleep(len(data) / self.rate)
                target.sendall(data)
                self.passed += len(data)
        for each in (source, target):
            with self._lock:
                mine = each in self._sockets
                self._sockets.discard(each)
            if mine:
                _abort(each)


def _abort(each: socket.socket) -> None:
    with suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.shutdown(socket.SHUT_RDWR)
    each.close()

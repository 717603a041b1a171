"""Processes of a benchmark: started here, spoken to in lines of JSON, and gone when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parent.parent


class Peer:
    """A Python module run in a process of its own; its stdout is lines of JSON.

    Parameters
    ----------
    module : str
        Run as ``python -m``.
    arguments : sequence of str
        Its arguments.
    """

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        environment = {
            **os.environ,
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }
        self.name = " ".join([module, *arguments[:2]])
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=environment,
            text=True,
        )
        threading.Thread(target=self._read_lines, daemon=True).start()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-500:]

    def go(self) -> None:
        """Let the process pass its next :func:`wait_for_go`."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def read(self, timeout: float) -> dict[str, Any]:
        """The next JSON line; lines that are something else are passed over.

        Raises
        ------
        RuntimeError
            The process ended, or said nothing for ``timeout`` seconds.
        """
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                raise RuntimeError(f"{self.name} said nothing for {timeout:g} s") from None
            if not line:
                raise RuntimeError(f"{self.name} ended early: {self._last_words()}")
            if line.startswith("{"):
                value: dict[str, Any] = json.loads(line)
                return value

    def end(self) -> None:
        """Kill the process if it still runs, and reap it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def peers() -> Iterator[list[Peer]]:
    """A list of processes that end with the block."""
    started: list[Peer] = []
    try:
        yield started
    finally:
        for peer in started:
            peer.end()


def say(**fields: Any) -> None:
    """Write one JSON line to stdout."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def wait_for_go() -> bool:
    """Wait for :meth:`Peer.go`; False when the benchmark's main process has gone."""
    return bool(sys.stdin.readline())


def progress(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def peak_mb() -> float:
    """Peak resident memory of this process (VmHWM), in 10^6 bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this system does not tell VmHWM")


def available_mb() -> float:
    """Memory that this machine can still give, in 10^6 bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this system does not tell MemAvailable")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def localhost_certificate() -> tuple[bytes, bytes]:
    """PEM certificate and key for ``localhost``, P-256 as fedsm's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem_key = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), pem_key

"""``heads.jsonl``: where the coordinator's journal stood at each message, kept by the site.

The file lies in the model folder and so ends up in the owner's bucket. A journal that is altered or
cut later no longer agrees with it; ``fedsm evidence verify`` compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fedsm.client import log
from fedsm.transport.notes import Head

FILE = "heads.jsonl"


class Heads:
    """Append the heads of one job's messages.

    Parameters
    ----------
    folder : Path
        The model folder.
    run, site : str
        Written into each line.
    sent : callable
        Bytes that the job has sent so far, by its own count.
    """

    def __init__(self, folder: Path, run: str, site: str, sent: Callable[[], int]) -> None:
        self._path = folder / FILE
        self._names = {"run": run, "site": site}
        self._sent = sent

    def add(self, phase: str, head: Head) -> None:
        """Write one line; ``phase`` is ``train``, ``evaluate``, ``query.…`` or ``closing``."""
        row = {
            **self._names,
            "round": head.round,
            "phase": phase,
            "seq": head.seq,
            "hash": head.hash,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "sent": self._sent(),
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
        except OSError as error:
            # Without a line the evidence says so; the training need not end for it.
            log.line("error", kind=phase, reason=f"{FILE} cannot be written: {error.strerror}")

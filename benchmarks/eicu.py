"""Seconds and memory of preparing eICU's raw tables, against vectorised pandas.

``python -m benchmarks.eicu --patients 3068 --json``; without ``--patients`` at the size of the
published study: 30,680 stays from about 18 million rows of ``vitalPeriodic``, 6 of
``nurseCharting``, 4 of ``lab`` and 2 of ``vitalAperiodic``, all CSV.gz and made up.

Each preparation runs in a process of its own on two processors, from the files to one sparse row
a stay; the two take turns. Seconds are the median, memory the highest. The rows of both must be
equal to the last bit. MB are 10^6 bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._processes import Peer, peak_mb, peers, progress, say

PATHS = ("fedsm", "pandas")
PROCESSORS = 2
PATIENCE = 1_800.0
SEED_PATIENTS = 30_680


def measure(directory: Path, repeat: int) -> dict[str, Any]:
    """Run both preparations in turn over the tables of ``directory``.

    Returns
    -------
    dict
        ``seconds``, ``peak_mb`` and ``rows`` (hourly records) of fedsm,
        ``times_faster_than_pandas``, and more of both; ``processor_seconds``, summed over threads,
        hardly depend on what else the machine does.
    """
    found: dict[str, list[dict[str, Any]]] = {path: [] for path in PATHS}
    for turn in range(repeat):
        # Neither is always the one that finds the files in the page cache.
        for path in PATHS if turn % 2 else reversed(PATHS):
            with peers() as started:
                peer = Peer("benchmarks.eicu", ["--peer", path, "--data", str(directory)])
                started.append(peer)
                found[path].append(peer.read(PATIENCE))
            progress(f"{path}: {found[path][-1]}")
    digests = {run["digest"] for runs in found.values() for run in runs}
    if len(digests) != 1:
        raise RuntimeError("fedsm and pandas prepared different rows")
    seconds, busy = (
        {path: median(run[name] for run in runs) for path, runs in found.items()}
        for name in ("seconds", "processor_seconds")
    )
    peak = {path: max(run["peak_mb"] for run in runs) for path, runs in found.items()}
    # Pair by pair: a neighbour on the machine slows both of a pair.
    ratios = [p["seconds"] / f["seconds"] for f, p in zip(*found.values(), strict=True)]
    return {
        "seconds": seconds["fedsm"],
        "peak_mb": peak["fedsm"],
        "rows": found["fedsm"][0]["rows"],
        "times_faster_than_pandas": median(ratios),
        "processor_seconds": busy["fedsm"],
        "pandas_seconds": seconds["pandas"],
        "pandas_processor_seconds": busy["pandas"],
        "pandas_peak_mb": peak["pandas"],
        "stays": found["fedsm"][0]["stays"],
        "inputs": found["fedsm"][0]["inputs"],
    }


def run_peer(path: str, directory: Path) -> None:
    """Prepare once, and say how it went."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])
    os.environ["POLARS_MAX_THREADS"] = str(PROCESSORS)
    work = _fedsm(directory) if path == "fedsm" else _pandas(directory)
    started, busy = time.perf_counter(), time.process_time()
    rows, records = work()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    peak = peak_mb()
    digest = hashlib.sha256(rows.indices.tobytes() + rows.data.tobytes()).hexdigest()
    stays, inputs = rows.shape
    say(
        seconds=seconds,
        processor_seconds=busy,
        peak_mb=peak,
        rows=records,
        stays=stays,
        inputs=inputs,
        digest=digest,
    )


def _fedsm(directory: Path) -> Callable[[], tuple[Any, int]]:
    from fedsm.datasets.eicu import prepare
    from fedsm.datasets.eicu_lookalike import VOCABULARY

    def work() -> tuple[Any, int]:
        prepared = prepare(directory, vocabulary=VOCABULARY)
        return prepared.rows.features, prepared.report.records

    return work


def _pandas(directory: Path) -> Callable[[], tuple[Any, int]]:
    from benchmarks._eicu_pandas import prepare
    from fedsm.datasets.eicu_lookalike import VOCABULARY
    from fedsm.datasets.eicu_windows import Span

    return lambda: prepare(directory, VOCABULARY, Span())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=SEED_PATIENTS)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--data", type=Path, help="tables to read, instead of made-up ones")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--peer", choices=PATHS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        run_peer(arguments.peer, arguments.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        directory = arguments.data or Path(folder)
        if arguments.data is None:
            from fedsm.datasets.eicu_lookalike import write_lookalike

            progress(f"made: {write_lookalike(directory, arguments.patients)}")
        measured = measure(directory, arguments.repeat)
    if arguments.json:
        json.dump({"eicu_preparation": measured}, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    for name, value in measured.items():
        print(f"{name:26}{value:,.2f}" if isinstance(value, float) else f"{name:26}{value:,}")


if __name__ == "__main__":
    main()

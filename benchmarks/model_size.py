"""Seconds and memory of a large model's way to a job and back.

``python -m benchmarks.model_size --mb 100 1000 --json``

Paths: fedsm (ArrayRecord to ArrayRecord), Flower's legacy server (Parameters to Parameters, gRPC
message limit at its largest), and a bare TLS gRPC stream of 1 MiB messages with no work at either
end, which is the limit; of gRPC's two APIs the faster counts. All arrays are unique, nothing is
aggregated, and conversion to numpy is timed apart, though its memory counts. Coordinator and
client are processes of their own; MB are 10^6 bytes and MB/s count both ways.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from typing import Any

from benchmarks._processes import Peer, available_mb, peers, progress, say

PATHS = ("fedsm", "flower-legacy", "bare-grpc sync", "bare-grpc aio")
PEERS = "benchmarks._model_peers"

LARGE = 300
"""MB beyond which flower-legacy, being slow, is run in the first block only."""

LEGACY_MODELS = 20
"""Memory that flower-legacy takes at once, both processes, in models."""


def measure(path: str, mb: int, exchanges: int) -> dict[str, Any]:
    """Run one path in fresh processes: one exchange to warm up, then ``exchanges`` that count.

    Raises
    ------
    RuntimeError
        The path cannot carry the model; the message says why.
    """
    patience = 120 + mb / 10 * (exchanges + 1)
    total = exchanges + 1
    with peers() as started:
        arguments = {"mb": mb, "exchanges": total}
        coordinator = Peer(PEERS, [path, "coordinator", json.dumps(arguments)])
        started.append(coordinator)
        where = coordinator.read(patience)
        arguments = {"mb": mb, **where}
        if path.startswith("bare"):
            arguments["exchanges"] = total
        client = Peer(PEERS, [path, "client", json.dumps(arguments)])
        started.append(client)
        result = coordinator.read(patience)
        peak = client.read(patience)["peak_mb"]
    seconds = result["seconds"][1:]
    return {
        "rates": [2 * mb / value for value in seconds],
        "convert": result["convert"],
        "coordinator_peak_mb": result["peak_mb"],
        "client_peak_mb": peak,
    }


def summarise(path: str, mb: int, runs: list[dict[str, Any]], fault: str | None) -> dict[str, Any]:
    """One row: medians of the rates, the largest peaks; null with the reason where it failed."""
    if not runs:
        nothing = {"mb_per_s": None, "coordinator_peak_mb": None, "client_peak_mb": None}
        return {"path": path, "mb": mb, **nothing, "reason": fault}
    rates = [rate for run in runs for rate in run["rates"]]
    row = {
        "path": path,
        "mb": mb,
        "mb_per_s": round(median(rates), 1),
        "coordinator_peak_mb": round(max(run["coordinator_peak_mb"] for run in runs), 1),
        "client_peak_mb": round(max(run["client_peak_mb"] for run in runs), 1),
        "mb_per_s_all": [round(rate, 1) for rate in rates],
    }
    converts = [run["convert"] for run in runs if run["convert"] is not None]
    if converts:
        row["convert_to_numpy_seconds"] = round(median(converts), 3)
    return row


def rows_for(mb: int, blocks: int, exchanges: int) -> list[dict[str, Any]]:
    """Measure all paths at one size, interleaved in blocks."""
    runs: dict[str, list[dict[str, Any]]] = {path: [] for path in PATHS}
    faults: dict[str, str] = {}
    for block in range(blocks):
        for path in PATHS:
            if path in faults or (path == "flower-legacy" and mb > LARGE and block):
                continue
            if path == "flower-legacy" and available_mb() < LEGACY_MODELS * mb:
                faults[path] = (
                    f"its two processes need about {LEGACY_MODELS} times the model at once, and "
                    f"this machine has {available_mb():.0f} MB to spare"
                )
                continue
            try:
                run = measure(path, mb, exchanges)
            except RuntimeError as error:
                faults[path] = str(error)
                progress(f"{mb} MB, {path}: {error}")
                continue
            runs[path].append(run)
            rates = ", ".join(f"{rate:.0f}" for rate in run["rates"])
            progress(f"{mb} MB, block {block + 1}/{blocks}, {path}: {rates} MB/s")
    rows = {path: summarise(path, mb, runs[path], faults.get(path)) for path in PATHS}
    bare = max(
        (rows[path] for path in PATHS if path.startswith("bare")),
        key=lambda row: row["mb_per_s"] or 0,
    )
    bare |= {"path": "bare-grpc", "api": bare["path"].split()[1]}
    rows["fedsm"] |= {
        "identity": "binding checked in process",
        "of_bare_grpc": _ratio(rows["fedsm"]["mb_per_s"], bare["mb_per_s"]),
        "coordinator_peak_models": _ratio(rows["fedsm"]["coordinator_peak_mb"], mb),
        "client_peak_models": _ratio(rows["fedsm"]["client_peak_mb"], mb),
    }
    return [rows["fedsm"], rows["flower-legacy"], bare]


def _ratio(value: float | None, of: float | None) -> float | None:
    return round(value / of, 2) if value and of else None


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mb", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--blocks", type=int, default=3, help="times each path is run")
    parser.add_argument("--exchanges", type=int, default=2, help="measured exchanges a run")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    rows = [
        row for mb in arguments.mb for row in rows_for(mb, arguments.blocks, arguments.exchanges)
    ]
    if arguments.json:
        say(rows=rows)
        return
    head = f"{'path':<14} {'MB':>6} {'MB/s':>8} {'coordinator MB':>15} {'client MB':>10}"
    print(head)
    for row in rows:
        values = [row["mb_per_s"], row["coordinator_peak_mb"], row["client_peak_mb"]]
        cells = ["-" if value is None else f"{value:.0f}" for value in values]
        print(f"{row['path']:<14} {row['mb']:>6} {cells[0]:>8} {cells[1]:>15} {cells[2]:>10}")


if __name__ == "__main__":
    main()

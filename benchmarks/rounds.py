"""Seconds per round (train and evaluate) of a 30-feature logistic regression.

``python -m benchmarks.rounds --sites 2 8 32 --json``

Paths: fedsm, with a journal and a checkpoint after every round, and Flower's legacy
``start_server``. Each client is a process of its own; both use TLS, do the same local work and
aggregate with their stock FedAvg. At each number of sites both federations stand at the same time
and take turns in blocks of rounds. The figure is the median over all rounds but the first block's.
"""

from __future__ import annotations

import argparse
import json
from statistics import median, quantiles
from typing import Any

from benchmarks._fedsm import IDENTITY
from benchmarks._processes import Peer, peers, progress, say

PATHS = ("fedsm", "flower-legacy")
PEERS = "benchmarks._round_peers"
PATIENCE = 300.0


def start(path: str, sites: int, blocks: int, rounds: int, started: list[Peer]) -> Peer:
    """Start a coordinator and its clients; returns the coordinator, ready for its first block."""
    # One block more than is run: a federation that shuts down would disturb the other.
    arguments = {"sites": sites, "blocks": blocks + 1, "rounds": rounds}
    coordinator = Peer(PEERS, [path, "coordinator", json.dumps(arguments)])
    started.append(coordinator)
    where = coordinator.read(PATIENCE)
    for site in range(sites):
        arguments = {"site": site, **where}
        started.append(Peer(PEERS, [path, "client", json.dumps(arguments)]))
    coordinator.read(PATIENCE)
    return coordinator


def rows_for(sites: int, blocks: int, rounds: int) -> list[dict[str, Any]]:
    """Measure both paths with this many sites."""
    seconds: dict[str, list[float]] = {path: [] for path in PATHS}
    with peers() as started:
        coordinators = {path: start(path, sites, blocks + 1, rounds, started) for path in PATHS}
        for block in range(blocks + 1):
            # Turn about: neither path is always the one that follows the other.
            for path in PATHS if block % 2 else reversed(PATHS):
                coordinators[path].go()
                measured = coordinators[path].read(PATIENCE)["seconds"]
                if block:
                    seconds[path] += measured
                progress(
                    f"{sites} sites, {path}, block {block}/{blocks}"
                    f"{'' if block else ' (warm-up)'}: {median(measured) * 1000:.2f} ms a round"
                )
    return [_row(path, sites, seconds[path]) for path in PATHS]


def _row(path: str, sites: int, seconds: list[float]) -> dict[str, Any]:
    lower, _, upper = quantiles(seconds, n=4)
    row = {
        "path": path,
        "sites": sites,
        "seconds_per_round": round(median(seconds), 6),
        "quartiles": [round(lower, 6), round(upper, 6)],
        "rounds": len(seconds),
    }
    if path == "fedsm":
        row["identity"] = IDENTITY
    return row


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sites", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--blocks", type=int, default=6, help="blocks a path")
    parser.add_argument("--rounds", type=int, default=20, help="rounds a block")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    rows = [
        row
        for sites in arguments.sites
        for row in rows_for(sites, arguments.blocks, arguments.rounds)
    ]
    if arguments.json:
        say(rows=rows)
        return
    print(f"{'path':<14} {'sites':>5} {'ms a round':>11}")
    for row in rows:
        print(f"{row['path']:<14} {row['sites']:>5} {row['seconds_per_round'] * 1000:>11.2f}")


if __name__ == "__main__":
    main()

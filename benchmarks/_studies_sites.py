"""Simulated sites: seconds a round and memory at 10, 100 and 1,000 of them, and Flower's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks._processes import ROOT, Peer, peak_mb, peers, progress, say
from benchmarks._studies_results import figure

NUMBERS = (10, 100, 1000)
ROUNDS = 10
REPEATS = 3
PATIENCE = 1_200.0
FEWER_ROUNDS = 3
"""Of Flower's simulation where there are more than a hundred sites: seconds are told for one."""
FLOWER = "FEDSM_FLOWER_SIMULATION_PYTHON"

GROWTH = 1.25
"""How much more a site may take where there are ten times as many."""


def simulated_sites(
    numbers: tuple[int, ...] = NUMBERS, repeats: int = REPEATS
) -> list[dict[str, Any]]:
    """Measure, each in a process of its own: median seconds, highest memory.

    ``peak_mb`` is the whole process's, ``mb_for_sites`` what it grew by from before the sites' rows
    were made.
    """
    rows: list[dict[str, Any]] = []
    for number in numbers:
        runs = []
        for _ in range(repeats):
            with peers() as started:
                started.append(Peer("benchmarks._studies_sites", [str(number), str(ROUNDS)]))
                runs.append(started[0].read(PATIENCE))
        row = sorted(runs, key=lambda run: run["seconds_per_round"])[len(runs) // 2]
        rows.append(row | {"peak_mb": max(run["peak_mb"] for run in runs)})
        progress(json.dumps(rows[-1]))
        flower = _flower(number)
        rows[-1]["flower"] = flower
        progress(f"Flower's simulation: {flower}")
    return rows


def figures_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Linear: ten times the sites take ten times the seconds and the memory, and hardly more."""
    found = []
    for few, many in pairwise(rows):
        times = many["sites"] / few["sites"]
        for name in ("seconds_per_round", "mb_for_sites"):
            value = many[name] / few[name] / times
            what = f"{many['sites']} simulated sites: {name} a site, against {few['sites']} sites"
            found.append(figure(what, value, f"<= {GROWTH}", value <= GROWTH))
    return found


def _flower(number: int) -> Any:
    """Flower's simulation of as many sites, or why there is none."""
    python = os.environ.get(FLOWER)
    if not python or not Path(python).exists():
        return f"not run: {FLOWER} names no interpreter with flwr[simulation]"
    rounds = ROUNDS if number <= 100 else FEWER_ROUNDS
    try:
        done = subprocess.run(
            [python, "-m", "benchmarks._flower_simulation", str(number), str(rounds)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", **_QUIET},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"{rounds} rounds were not done after {PATIENCE:.0f} seconds"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return f"could not run: {done.stderr.strip().splitlines()[-1:]}"
    return json.loads(lines[-1])


_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}


def main(number: int, rounds: int) -> None:
    """One simulation in this process."""
    from benchmarks._site_rows import rows_of_site
    from fedsm.simulation import simulate

    simulate({"warm-up": rows_of_site(0)}, rounds=1)
    before = peak_mb()
    sites = {f"site-{i:04d}": rows_of_site(i) for i in range(number)}
    began = time.perf_counter()
    run = simulate(sites, rounds=rounds)
    seconds = time.perf_counter() - began
    assert len(run.history) == rounds
    assert not run.errors
    peak = peak_mb()
    say(
        sites=number,
        seconds_per_round=seconds / rounds,
        peak_mb=peak,
        mb_for_sites=peak - before,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

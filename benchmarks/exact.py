"""Rounds, accuracy and traffic of exact federated logistic regression.

``python -m benchmarks.exact --json``

Four sites behind fedsm's transport in this process. *Newton*: the largest difference of a
coefficient from scikit-learn's ``newton-cholesky`` (tol 1e-13) on the pooled rows, as a share of
the largest coefficient. *L-BFGS*: synthetic stays with 22,100 features; rounds until the objective
is within a share of the pooled optimum, which the pooled rows' own minimisation finds and strong
convexity certifies: F(w) - F* <= |dF/dw|^2 / (2 / C).
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message
from sklearn.linear_model import LogisticRegression

from benchmarks._exact_data import HOURS, SHARES, Rows, public, stays
from benchmarks._fedsm import open_grid, open_session
from benchmarks._processes import progress, say
from fedsm.learning.exact import Exact
from fedsm.learning.exact_descent import Descent, Evaluation, LimitedMemory
from fedsm.learning.exact_objective import SiteLoss
from fedsm.learning.exact_precondition import Preconditioner
from fedsm.learning.exact_site import answer, to_arrays, to_matrix
from fedsm.transport.grid import StreamGrid

SITES = tuple(f"site-{i}" for i in range(len(SHARES)))
GAPS = (1e-3, 1e-4, 1e-6)
CLOSE = 1e-6
CERTIFIED = 1e-8
SMALL = (
    ("breast-cancer", 1.0, None),
    ("breast-cancer", 1e4, None),
    ("heart-disease", 1.0, None),
    ("heart-disease", 1e4, None),
    ("cms-fraud", 1.0, "balanced"),
    ("cms-fraud", 1e4, "balanced"),
    ("wine", 1.0, None),
    ("wine", 1e4, None),
    ("digits", 1.0, None),
    ("digits", 1e4, None),
)


@contextmanager
def federation(rows: Rows) -> Iterator[StreamGrid]:
    """A grid with the rows' sites behind it, each in a thread."""
    grid, certificate, port = open_grid(SITES)
    threads = []
    for number, name in enumerate(SITES):
        x, y = rows.of(number)

        def handle(message: Message, x: Any = x, y: Any = y) -> Message:
            return Message(answer(message, x, y), reply_to=message)

        session = open_session(name, port, certificate.der)
        threads.append(threading.Thread(target=session.serve, args=(handle,), daemon=True))
        threads[-1].start()
    grid.wait_for_sites(len(SITES), 60)
    try:
        yield grid
    finally:
        grid.finish(None, 10)
        grid.close()


def rounds_of(rows: Rows, grid: StreamGrid, strategy: Exact, most: int) -> Iterator[dict[str, Any]]:
    """Go through the rounds; yields the parameters after each, its metrics and its traffic."""
    counts = np.bincount(rows.y)
    config = ConfigRecord(
        {
            "prepare-classes": list(range(len(counts))),
            "prepare-class-counts": counts.tolist(),
        }
    )
    outputs = 1 if len(counts) == 2 else len(counts)
    arrays = to_arrays(np.zeros((outputs, rows.x.shape[1] + 1)))
    before = 0
    for number in range(1, most + 1):
        began = time.perf_counter()
        messages = list(strategy.configure_train(number, arrays, config, grid))
        replies = grid.send_and_receive(messages, timeout=600)
        moved, metrics = strategy.aggregate_train(number, replies)
        assert moved is not None
        assert metrics is not None
        arrays = moved
        crossed = sum(sum(pair) for pair in grid.traffic().values())
        yield {
            "w": to_matrix(arrays),
            "objective": metrics["objective"],
            "gap": metrics["gap"],
            "bytes": crossed - before,
            "seconds": time.perf_counter() - began,
        }
        before = crossed
        if strategy.finished:
            return


def newton_row(name: str, c: float, weight: str | None, data: Path) -> dict[str, Any] | None:
    """One small set against scikit-learn on the pooled rows."""
    rows = public(name, data)
    if rows is None:
        progress(f"{name}: not in {data}")
        return None
    with federation(rows) as grid:
        strategy = Exact(c=c, class_weight=weight)
        found = list(rounds_of(rows, grid, strategy, 100))
    pooled = LogisticRegression(
        C=c, class_weight=weight, solver="newton-cholesky", tol=1e-13, max_iter=1000
    )
    with warnings.catch_warnings():
        # The tolerance lies below rounding error: the last step cannot decrease anything.
        warnings.simplefilter("ignore")
        pooled.fit(rows.x, rows.y)
    largest = np.abs(pooled.coef_).max()
    off = [float(np.abs(r["w"][:, :-1] - pooled.coef_).max() / largest) for r in found]
    intercept = pooled.intercept_ - (pooled.intercept_.mean() if len(pooled.coef_) > 1 else 0.0)
    row = {
        "study": name,
        "method": "newton",
        "c": c,
        "class_weight": weight,
        "coefficients": int(found[0]["w"].size),
        "rounds": len(found),
        "rounds_to_1e-06": next((i for i, v in enumerate(off, 1) if v <= CLOSE), None),
        "max_abs_coef_diff": off[-1],
        "max_abs_intercept_diff": float(np.abs(found[-1]["w"][:, -1] - intercept).max()),
        "converged": strategy.finished,
    }
    progress(json.dumps(row))
    return row


def wide_row(rows: Rows, c: float, most: int, directions: int) -> dict[str, Any]:
    """Synthetic stays against the pooled optimum."""
    with federation(rows) as grid:
        strategy = Exact(
            c=c, windows=HOURS, directions=directions, objective_tolerance=GAPS[-1] / 10
        )
        found = list(rounds_of(rows, grid, strategy, most))
    least, certified = pooled_optimum(rows, c, found[-1]["w"])
    # What a round evaluates is the model that the round before it gave.
    gaps = [r["objective"] / least - 1 for r in found][1:]
    hits = {f"{g:.0e}": next((i for i, v in enumerate(gaps, 1) if v <= g), None) for g in GAPS}
    once = {1, 2} if directions else {1}
    plain = [r["bytes"] for i, r in enumerate(found, 1) if i not in once]
    row = {
        "study": "stays",
        "method": "lbfgs",
        "c": c,
        "rows": len(rows.y),
        "features": rows.x.shape[1],
        "rounds_to_gap": hits,
        "told": {
            f"{g:.0e}": next((i for i, r in enumerate(found, 1) if r["gap"] <= g), None)
            for g in GAPS
        },
        "optimum": least,
        "optimum_certified_to": certified,
        "mb_a_round": round(max(plain) / 1e6, 3),
        "mb_one_off": round((sum(found[i - 1]["bytes"] - min(plain) for i in once)) / 1e6, 3),
        "seconds_per_round": round(float(np.median([r["seconds"] for r in found])), 3),
    }
    progress(json.dumps(row))
    return row


def pooled_optimum(rows: Rows, c: float, start: Any) -> tuple[float, float]:
    """Least objective of the pooled rows, and the relative gap that is certain."""
    weights, strength = np.ones(2), 1.0 / c
    shape, memory = start.shape, LimitedMemory(100)
    descent, point = Descent(memory), start.ravel()
    certain, value = np.inf, np.inf
    for number in range(2000):
        w = point.reshape(shape)
        loss = SiteLoss(w, rows.x, rows.y, weights)
        penalised = np.where(np.arange(w.size) < w.size - 1, strength, 0.0)
        gradient = loss.gradient().ravel() + penalised * point
        here = loss.value + float(penalised @ point**2) / 2
        if number % 100 == 0:
            made = Preconditioner([loss.curvature(HOURS)], strength)
            made.couple([loss.coupling(made.directions(1000))])
            memory.precondition = partial(_solve, made, shape)
        bound = float(gradient @ gradient) / (2 * strength) / here
        if bound < certain:
            certain, value = bound, here
        if certain <= CERTIFIED:
            break
        point = descent.tell([Evaluation(point, here, gradient)])
    return value, certain


def _solve(made: Preconditioner, shape: tuple[int, int], v: Any) -> Any:
    return made.solve(v.reshape(shape)).ravel()


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=27_000, help="synthetic stays")
    parser.add_argument("--c", type=float, nargs="*", default=[0.01, 1.0], help="of the stays")
    parser.add_argument("--rounds", type=int, default=200, help="most rounds over the stays")
    parser.add_argument("--directions", type=int, default=1000, help="of the preconditioner")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    small = [newton_row(name, c, weight, arguments.data) for name, c, weight in SMALL]
    rows: list[dict[str, Any]] = [row for row in small if row is not None]
    if arguments.c:
        wide = stays(arguments.rows)
        rows += [wide_row(wide, c, arguments.rounds, arguments.directions) for c in arguments.c]
    if arguments.json:
        say(rows=rows)
        return
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()

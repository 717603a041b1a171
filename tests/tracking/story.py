"""A run's journal, written as the coordinator writes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fedsm.events import Journal

RUN = "20261120-101500-3f9a"
HYPERPARAMETERS = {
    "learning-rate": 0.05,
    "batch-size": 32,
    "local-epochs": 5,
    "solver": "lbfgs",
    "weight-decay": 1e-4,
    "class-weights": [1.0, 3.5],
    "shuffle": True,
}


def start(journal: Journal, sites: Sequence[str], **changes: Any) -> None:
    """Everything before round 1."""
    data: dict[str, Any] = {
        "run": RUN,
        "federation": "heart",
        "cloud": "local",
        "isolation": "bubblewrap",
        "rounds": 3,
        "strategy": "fedadam",
        "options": {"eta": 0.1},
        "hyperparameters": HYPERPARAMETERS,
        "min_sites": 2,
        "model": "logistic-regression",
        "sites": [
            {"name": name, "account": f"{number:012d}", "region": "eu-west-1"}
            for number, name in enumerate(sites, start=1)
        ],
        "bundle": "b" * 64,
    }
    journal.append("run-started", **(data | changes))
    for number, name in enumerate(sites, start=1):
        arn = f"arn:aws:sagemaker:eu-west-1:{number:012d}:training-job/{name}"
        journal.append(
            "job-created", site=name, account=f"{number:012d}", job=f"job-{name}", arn=arn
        )
        journal.append("site-joined", site=name, device="cuda:0", again=False)
    journal.append("preparation", sites=list(sites), examples=60 * len(sites), statistics=["rows"])


def play_round(journal: Journal, number: int, sites: Sequence[str]) -> None:
    """One round; the last site has rows of one class only, so it has no AUC."""
    journal.append("round-started", round=number, sites=list(sites))
    for name in sites:
        journal.append(
            "site-metrics",
            round=number,
            phase="train",
            site=name,
            metrics={"num-examples": 60, "train_loss": 1 / number, "accuracy": 0.5},
            seconds=0.25,
            sent=1000,
            received=2000,
        )
    for name in sites:
        auc = math.nan if name == sites[-1] else 0.5 + number / 8
        journal.append(
            "site-metrics",
            round=number,
            phase="evaluate",
            site=name,
            metrics={"num-examples": 20, "loss": 2 / number, "accuracy": 0.6, "auc": auc},
            seconds=0.125,
            sent=100,
            received=10,
        )
    journal.append("checkpoint", round=number, path=f"/runs/checkpoints/{number}.npz", sha256="c")
    journal.append(
        "round-ended",
        round=number,
        seconds=1.5,
        train={"loss": 1 / number},
        evaluate={"loss": 2 / number, "auc": 0.8},
        server={"num-examples": 100, "loss": 3 / number, "auc": 0.9, "accuracy": 0.7},
    )


def finish(journal: Journal, sites: Sequence[str], status: str = "Completed") -> None:
    """The end of the jobs and of the run."""
    for name in sites:
        journal.append(
            "job-status",
            site=name,
            job=f"job-{name}",
            status="Completed",
            secondary="Completed",
            reason="",
            seconds=12.5,
            artifacts=f"s3://{name}-models/output/model.tar.gz",
        )
    journal.append(
        "run-ended",
        status=status,
        reason="" if status == "Completed" else "why it ended",
        model="/runs/model.joblib",
        model_sha256="d" * 64,
    )


def play(journal: Journal, sites: Sequence[str] = ("north", "south"), rounds: int = 3) -> None:
    """A whole run."""
    start(journal, sites, rounds=rounds)
    for number in range(1, rounds + 1):
        play_round(journal, number, sites)
    finish(journal, sites)

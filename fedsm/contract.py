"""What a launch hands to a job, named once for both sides.

They travel in ``CreateTrainingJob.Environment``, written by the coordinator or by the pipeline that
the site's owner made; the job reads them back. None of them is a secret: the join id admits nobody
without the identity proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fedsm.errors import ConfigError

CODE_CHANNEL = "fedsm-code"
"""Input channel that holds the bundle; the bootstrap checks it before anything of it runs."""

PREFIX = "FEDSM_"

LIMIT = f"{PREFIX}LIMIT_"
"""What the owner fixed when he approved the bundle; the job checks its settings against it."""

LIMIT_ADDRESS = f"{LIMIT}ADDRESS"
LIMIT_ROUNDS = f"{LIMIT}ROUNDS"
LIMIT_METRICS = f"{LIMIT}METRICS"
LIMIT_COUNT = f"{LIMIT}COUNT"

EXACT_SUMS = {
    "newton": ("losses", "trials", "hessian"),
    "lbfgs": (
        "losses",
        "curvature-total",
        "curvature-mean",
        "curvature-blocks",
        "coupling-total",
        "coupling-mean",
        "coupling-gram",
    ),
    "none": ("extremes",),
}
"""Arrays that leave a site for strategy ``exact``, by solver, and without a penalty. None is like
the model, so the owner's terms must name them."""

MAX_ROUNDS = 100_000

REPORT_ROUNDS = "report-rounds"
"""In a message's config: how many rounds of its own a site trains for the final report."""

TREES = "trees"
"""What an owner's terms name so that a job's trees may leave."""

MIN_BINS, MAX_BINS = 16, 65_536
"""Bins of a histogram that a job answers with."""

MAX_SITES = 1000
"""Sites of a run, as far as a job believes it."""


@dataclass(frozen=True, slots=True)
class JobSettings:
    """One job's launch settings.

    Attributes
    ----------
    run, site : str
        Run id and site name.
    partition, partitions : int
        This site's index (from 0) among ``partitions`` sites: Flower's ``partition-id`` and
        ``num-partitions``.
    address : str
        ``host:port`` the job dials.
    certificate : str
        The coordinator's certificate, base64 of its DER (at most 512 characters): the only root of
        trust of the connection.
    join_id : str
        Unguessable name of this one launch.
    sts_region : str
        Region whose STS the identity proof is signed for.
    max_wait : float
        Seconds the job stays without a coordinator before it leaves.
    bundle_sha256 : str
        Hex digest of the bundle that the bootstrap accepts.
    rounds : int
        Rounds of the run.
    model : str
        Name of the model adapter that writes ``model.joblib``; empty for ``model.npz``.
    """

    run: str
    site: str
    partition: int
    partitions: int
    address: str
    certificate: str
    join_id: str
    sts_region: str
    max_wait: float
    bundle_sha256: str
    rounds: int
    model: str = ""

    def to_environment(self) -> dict[str, str]:
        """Environment variables for ``CreateTrainingJob``, all values strings."""
        return {PREFIX + f.name.upper(): str(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> JobSettings:
        """Read the settings back.

        Raises
        ------
        ConfigError
            A variable is missing, not of its type, or no place among the sites; all faults are
            listed.
        """
        values: dict[str, Any] = {}
        faults: list[tuple[str, str]] = []
        convert = {"partition": int, "partitions": int, "max_wait": float, "rounds": int}
        for f in fields(cls):
            name = PREFIX + f.name.upper()
            raw = environ.get(name)
            if raw is None:
                if f.name != "model":
                    faults.append((name, "is not set"))
                continue
            try:
                values[f.name] = convert.get(f.name, str)(raw)
            except ValueError:
                faults.append((name, f"is not a valid {convert[f.name].__name__}"))
        if not faults and not 0 <= values["partition"] < values["partitions"] <= MAX_SITES:
            faults.append((f"{PREFIX}PARTITION", f"is no place among at most {MAX_SITES} sites"))
        if faults:
            raise ConfigError(
                "the job's environment does not describe a fedsm launch",
                action="start the job through fedsm",
                faults=tuple(faults),
            )
        return cls(**values)


def limit_name(hyperparameter: str) -> str:
    """Environment variable with the range of a hyperparameter."""
    return f"{LIMIT}HP_{hyperparameter.upper().replace('-', '_')}"

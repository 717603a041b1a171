"""What a launch hands to a job, named once for both sides.

The coordinator writes these values into ``CreateTrainingJob.Environment``; the job reads them back.
None of them is a secret: the join id admits nobody without the identity proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from fedsm.errors import ConfigError

CODE_CHANNEL = "fedsm-code"
"""Input channel that holds the bundle; the bootstrap checks it before anything of it runs."""

PREFIX = "FEDSM_"


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
            A variable is missing or not of its type; all faults are listed.
        """
        values: dict[str, object] = {}
        faults: list[tuple[str, str]] = []
        convert = {"partition": int, "partitions": int, "max_wait": float}
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
        if faults:
            raise ConfigError(
                "the job's environment does not describe a fedsm launch",
                action="start the job through fedsm",
                faults=tuple(faults),
            )
        return cls(**values)  # type: ignore[arg-type]

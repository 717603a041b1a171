"""What every adapter has, and what it is told of a site's work in a round."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fedsm.learning.preparation import Summary

Classes = NDArray[np.intp]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Local:
    """What a site's work in a round depends on, beside its rows and the global arrays.

    Attributes
    ----------
    summary : Summary
        What the federation knows of its rows, and how they are prepared.
    run_config : mapping
        Hyperparameters by name.
    config : mapping
        What the strategy says with this message, ``server-round`` among it.
    proximal_mu : float
        Weight of FedProx's term ``mu/2 |w - w_global|^2``, added to the site's mean loss.
    correction : ArrayRecord or None
        Added to every gradient, array by array: SCAFFOLD's.
    site : str
        The site's name; with the round and the hyperparameter ``seed`` it seeds what is drawn.
    """

    summary: Summary
    run_config: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    proximal_mu: float = 0.0
    correction: ArrayRecord | None = None
    site: str = ""

    def generator(self) -> np.random.Generator:
        """Random numbers of this site in this round: the same in every process."""
        where = zlib.crc32(self.site.encode())
        server_round = int(self.config.get("server-round", 0))
        return np.random.default_rng([int(self.run_config.get("seed", 0)), server_round, where])


class Adapter(Protocol):
    """One kind of model."""

    name: str

    def check(self, run_config: Mapping[str, Any]) -> None:
        """See that the hyperparameters are the model's, before anything is launched.

        Raises
        ------
        ConfigError
            Some are not; all are listed.
        """
        ...

    def initial(self, summary: Summary, run_config: Mapping[str, Any]) -> ArrayRecord:
        """Parameters before round 1."""
        ...

    def fit(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """Train on a site's prepared rows, from the global parameters; returns the new ones.

        Parameters
        ----------
        arrays : ArrayRecord
            The global parameters; left as they are.
        x : ndarray of float64 or csr_array, shape (rows, inputs)
            Prepared rows, nothing missing; one at least.
        y : ndarray of int, shape (rows,)
            Class indices; classes may be missing.
        local : Local

        Raises
        ------
        ConfigError
            A hyperparameter is wrong, or the model cannot do what ``local`` asks for.
        """
        ...

    def predict(
        self, arrays: ArrayRecord, x: Any, summary: Summary, run_config: Mapping[str, Any]
    ) -> Probabilities:
        """Probabilities of prepared rows, shape (rows, classes); there may be no row."""
        ...

    def build(self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any]) -> Any:
        """A fitted scikit-learn Pipeline that takes raw rows, NaN where a value is missing."""
        ...


def save(model: Any, path: Path) -> None:
    """Write what :meth:`Adapter.build` gave, whole or not at all; same arrays, same bytes."""
    import joblib

    part = path.with_name(path.name + ".part")
    joblib.dump(model, part)
    part.replace(path)

"""Hyperparameters of the models that are trained by steps, read by name with all faults listed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsm.errors import ConfigError
from fedsm.learning.models.base import Classes, Local

NAMES = frozenset(
    {
        "batch-size",
        "c",
        "class-weights",
        "epochs",
        "hidden-layers",
        "lambda",
        "learning-rate",
        "local-steps",
        "max-depth",
        "optimizer",
        "penalty",
        "seed",
        "solver",
        "subsample",
        "weight-decay",
    }
)
"""Hyperparameters that some model has; others are the user's own, and nobody's business here."""

NEAR = 0.85
"""So alike (difflib's ratio) that a name of the user's own is taken for a slip."""


class Reader:
    """Reads hyperparameters, keeps what is wrong, and says it at once.

    Parameters
    ----------
    model : str
        Name of the adapter.
    run_config : mapping
        Hyperparameters by name.
    """

    def __init__(self, model: str, run_config: Mapping[str, Any]) -> None:
        self._model = model
        self._config = run_config
        self._known: set[str] = set()
        self._faults: list[tuple[str, str]] = []

    def given(self, key: str) -> bool:
        """Whether there is a value."""
        return key in self._config

    def number(
        self, key: str, default: float, *, zero: bool = False, most: float = math.inf
    ) -> float:
        """A number above 0, or from 0 on."""
        value = self._value(key, default)
        real = isinstance(value, int | float) and not isinstance(value, bool)
        if not (real and (0 < value < math.inf or (zero and value == 0)) and value <= most):
            bound = "from 0" if zero else "above 0"
            up_to = f", at most {most:g}" if most < math.inf else ""
            self.fault(key, f"must be a number {bound}{up_to}")
            return default
        return float(value)

    def whole(self, key: str, default: int, *, least: int = 1, most: int = 2**31) -> int:
        """A whole number."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.fault(key, f"must be a whole number from {least} to {most}")
            return default
        return value

    def choice(self, key: str, default: str, valid: Sequence[str]) -> str:
        """One of some names."""
        value = self._value(key, default)
        if value not in valid:
            self.fault(key, f"must be one of {', '.join(valid)}")
            return default
        return str(value)

    def layers(self, key: str, default: str) -> tuple[int, ...]:
        """Widths of hidden layers: ``"32,16"``, or ``32``; none where the text is empty."""
        text = str(self._value(key, default)).strip()
        parts = [part.strip() for part in text.split(",")] if text else []
        if not all(part.isdecimal() and 0 < int(part) <= 2**16 for part in parts):
            self.fault(key, 'must be widths from 1 to 65536, such as "32,16"')
            return ()
        return tuple(int(part) for part in parts)

    def skip(self, key: str) -> None:
        """A value that something else reads and checks."""
        self._known.add(key)

    def fault(self, key: str, text: str) -> None:
        """Something that is wrong."""
        self._faults.append((key, text))

    def done(self) -> None:
        """See that all was right.

        Raises
        ------
        ConfigError
            Something was not, or a hyperparameter is another model's, or misspelt; all are listed.
        """
        others = sorted((NAMES & set(self._config)) - self._known)
        faults = [*self._faults, *((key, f"is no setting of {self._model}") for key in others)]
        for key in sorted(set(self._config) - NAMES):
            if near := difflib.get_close_matches(key, sorted(self._known), 1, NEAR):
                faults.append((key, f"is nobody's setting; did you mean {near[0]}?"))
        if faults:
            raise ConfigError(
                f"hyperparameters of {self._model} are wrong",
                where="training.hyperparameters",
                action=f"correct them in federation.yaml; it has {', '.join(sorted(self._known))}",
                faults=tuple(faults),
            )

    def _value(self, key: str, default: Any) -> Any:
        self._known.add(key)
        return self._config.get(key, default)


@dataclass(frozen=True)
class Steps:
    """How far a site goes in a round: so many mini-batches, or so many passes over its rows.

    Attributes
    ----------
    local_steps : int
        Mini-batches; 0 where ``epochs`` says it.
    epochs : int
    batch_size : int
    """

    local_steps: int
    epochs: int
    batch_size: int

    @classmethod
    def read(cls, reader: Reader, *, local_steps: int, batch_size: int | None) -> Steps:
        """Read ``local-steps`` or ``epochs``, and ``batch-size`` unless it is None (always 1)."""
        if reader.given("local-steps") and reader.given("epochs"):
            reader.fault("epochs", "give either local-steps or epochs")
        steps = reader.whole("local-steps", local_steps)
        epochs = reader.whole("epochs", 1)
        size = 1 if batch_size is None else reader.whole("batch-size", batch_size)
        by_epochs = reader.given("epochs")
        return cls(0 if by_epochs else steps, epochs if by_epochs else 0, size)

    def batches(self, rows: int, random: np.random.Generator) -> Iterator[NDArray[np.intp]]:
        """Indices of each mini-batch; the rows are shuffled at each pass.

        A last row that would be alone joins the batch before: batch normalisation needs two.
        """
        taken = epoch = 0
        while epoch < self.epochs or taken < self.local_steps:
            order = random.permutation(rows)
            cuts = list(range(0, rows, self.batch_size))
            if self.batch_size > 1 and len(cuts) > 1 and rows - cuts[-1] == 1:
                cuts.pop()
            for first, last in zip(cuts, [*cuts[1:], rows], strict=True):
                if self.local_steps and taken == self.local_steps:
                    return
                yield order[first:last]
                taken += 1
            epoch += 1


def sample_weights(local: Local, y: Classes) -> NDArray[np.float64] | None:
    """Weight of each row by the hyperparameter ``class-weights``; None without any."""
    given = local.run_config.get("class-weights", "none")
    if given == "none":
        return None
    weights: NDArray[np.float64] = local.summary.class_weights(given)[y]
    return weights


def refuse(model: str, local: Local, *, proximal: bool, correction: bool) -> None:
    """Refuse what an estimator has no way to do.

    Raises
    ------
    ConfigError
        The strategy asks for a proximal term or a correction of gradients, and there is none.
    """
    if (local.proximal_mu and not proximal) or (local.correction is not None and not correction):
        what = "correct its gradients" if local.correction is not None else "add a proximal term"
        raise ConfigError(
            f"{model} cannot {what}: its library takes the steps",
            where="training.strategy",
            action="choose a strategy without, such as fedavg or fedadam, or the model pytorch "
            "or logistic-regression",
        )

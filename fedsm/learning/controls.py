"""SCAFFOLD's control variates beside a model, in one record, and what a site does with them.

The record of a train message holds the model's arrays, then a correction of each under the prefix
``control/``; that of the answer the trained arrays, then the site's gradient at the global ones. So
both have the same names, types and shapes, as the owners' terms ask for, and a site keeps nothing
from round to round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from flwr.app import Array, ArrayRecord

from fedsm.errors import ConfigError
from fedsm.learning.models import Adapter, Local
from fedsm.learning.models.base import Classes

PREFIX = "control/"

ANEW = "scaffold-anew"
"""Key of a message's config: the site's own control is not in the correction yet."""


@runtime_checkable
class Differentiable(Protocol):
    """An adapter that heeds ``Local.correction`` and gives the gradient that it corrects."""

    def gradient(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """Of the site's mean loss and penalty over all its rows: the arrays' names and shapes."""
        ...


def join(arrays: ArrayRecord, control: Mapping[str, Any]) -> ArrayRecord:
    """A model's arrays and their controls, in the arrays' types, as one record."""
    parts = dict(arrays.items())
    for name, array in arrays.items():
        values = control[name].astype(array.dtype, copy=False)
        parts[PREFIX + name] = Array(values)
    return ArrayRecord(parts)


def split(arrays: ArrayRecord) -> tuple[ArrayRecord, ArrayRecord | None]:
    """A model's arrays, and their controls under the arrays' own names if there are any."""
    model = {name: array for name, array in arrays.items() if not name.startswith(PREFIX)}
    control = {
        name.removeprefix(PREFIX): array
        for name, array in arrays.items()
        if name.startswith(PREFIX)
    }
    return ArrayRecord(model), ArrayRecord(control) if control else None


def train(
    model: Adapter, arrays: ArrayRecord, x: Any, y: Classes, local: Local
) -> tuple[ArrayRecord, ArrayRecord]:
    """A round at a site, with SCAFFOLD's correction where the message holds one.

    Returns
    -------
    tuple of ArrayRecord, ArrayRecord
        The trained model, and the arrays of the answer.

    Raises
    ------
    ConfigError
        The adapter cannot be corrected; or what ``fit`` raises.
    """
    start, control = split(arrays)
    if control is None:
        trained = model.fit(start, x, y, local)
        return trained, trained
    if not isinstance(model, Differentiable):
        raise not_differentiable(getattr(model, "name", type(model).__name__))
    own = {name: array.numpy() for name, array in model.gradient(start, x, y, local).items()}
    if local.config.get(ANEW):
        control = ArrayRecord(
            {name: Array(array.numpy() - own[name]) for name, array in control.items()}
        )
    trained = model.fit(start, x, y, replace(local, correction=control))
    return trained, join(trained, own)


def not_differentiable(name: str) -> ConfigError:
    """What is wrong with strategy ``scaffold`` and this adapter."""
    return ConfigError(
        f"the model adapter {name} has no `gradient`, so scaffold cannot correct its steps",
        where="training.strategy",
        action="choose another strategy (fedadam, fedavg), or a model adapter that has one",
    )

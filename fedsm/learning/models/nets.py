"""PyTorch modules: how one is made, and the classifier that predicts with its weights.

A module of the user's own is the text of ``net.py``, with a function ``net(inputs, outputs)``.
``model.joblib`` carries that text with the weights, so that it loads where the file is not: a
module's class could only be unpickled beside the file that defines it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from traceback import extract_tb
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from fedsm.errors import ConfigError

NET = "net.py"

ROWS = 4096
"""Rows that are predicted at a time."""

SMALL = 2**18
"""Values of a mini-batch under which one thread does."""


def make(source: str, hidden: tuple[int, ...], inputs: int, outputs: int) -> Any:
    """A module with fresh weights of ``inputs`` features and ``outputs`` logits.

    Parameters
    ----------
    source : str
        Text of ``net.py``; empty for dense layers with ReLU between them.
    hidden : tuple of int
        Widths of the hidden layers; none for a linear model.

    Raises
    ------
    ConfigError
        ``net.py`` has no function ``net``, or it fails or does not give a module.
    """
    from torch import nn

    if not source:
        layers: list[Any] = []
        for wide, narrow in pairwise((inputs, *hidden)):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear((inputs, *hidden)[-1], outputs))
    net = factory(source)
    try:
        made = net(inputs, outputs)
    except Exception as error:
        raise _failed("net(inputs, outputs) fails", error) from error
    if not isinstance(made, nn.Module):
        raise _no_net()
    return made


def factory(source: str) -> Callable[[int, int], Any]:
    """The function ``net`` of the text of a ``net.py``.

    Raises
    ------
    ConfigError
        It cannot be imported, or has no such function.
    """
    names: dict[str, Any] = {"__name__": "net"}
    try:
        # The owner's own file, which was approved with the rest of the client code.
        exec(compile(source, NET, "exec"), names)  # noqa: S102
    except (Exception, SystemExit) as error:
        raise _failed("cannot be imported", error) from error
    found = names.get("net")
    if not callable(found):
        raise _no_net()
    return cast("Callable[[int, int], Any]", found)


def _no_net() -> ConfigError:
    return ConfigError(
        "has no function net(inputs, outputs) that gives a torch.nn.Module",
        where=NET,
        action="define one; see docs/models.md",
    )


def _failed(what: str, error: BaseException) -> ConfigError:
    own = [f.lineno for f in extract_tb(error.__traceback__) if f.filename == NET]
    line = error.lineno if isinstance(error, SyntaxError) else (own or [0])[-1]
    return ConfigError(
        f"{what}: {type(error).__name__} at line {line}",
        where=NET,
        action="mend the file; see docs/models.md",
    )


def weights_of(module: Any) -> dict[str, NDArray[np.float32]]:
    """Parameters and buffers of real numbers by name, copied as float32 on the CPU.

    Integers, such as the count of batches that batch normalisation keeps, stay: an average of them
    is no integer.
    """
    return {
        name: tensor.detach().cpu().float().numpy().copy()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }


def set_weights(module: Any, weights: dict[str, NDArray[Any]]) -> None:
    """Put :func:`weights_of` back; what is not among them keeps the module's own value.

    Raises
    ------
    ConfigError
        The names or shapes are another module's.
    """
    import torch

    own = {n: t for n, t in module.state_dict().items() if t.is_floating_point()}
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {name: tuple(array.shape) for name, array in weights.items()}
    if shapes != found:
        odd = sorted(set(found.items()) ^ set(shapes.items()))[0][0]
        raise ConfigError(
            f"the arrays are not the module's: {odd} is missing, too many or of another shape",
            where="training.initial",
            action="start from the model adapter, and give every site the same net and "
            "hyperparameters",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(np.array(weights[name], dtype=np.float32)))


class NetClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A trained module as a scikit-learn classifier; PyTorch is imported when it predicts.

    Parameters
    ----------
    source, hidden
        As of :func:`make`.
    """

    def __init__(self, source: str = "", hidden: tuple[int, ...] = ()) -> None:
        self.source = source
        self.hidden = hidden

    def set(self, weights: dict[str, NDArray[np.float32]], inputs: int, classes: Any) -> Any:
        """Take trained weights; returns itself."""
        self.weights_, self.n_features_in_, self.classes_ = weights, inputs, np.array(classes)
        return self

    def fit(self, x: Any, y: Any) -> Any:
        """It is trained in a federation only."""
        raise ConfigError(
            "cannot be fitted here: its weights come from a federation",
            where=type(self).__name__,
            action="train it in a federation",
        )

    def predict_proba(self, x: Any) -> NDArray[np.float64]:
        """Probabilities, shape (rows, classes)."""
        import torch

        module = make(self.source, self.hidden, self.n_features_in_, len(self.classes_))
        set_weights(module, self.weights_)
        return probabilities(module, x, torch.device("cpu"), len(self.classes_))

    def predict(self, x: Any) -> NDArray[Any]:
        """The likeliest class of each row."""
        found: NDArray[Any] = self.classes_[self.predict_proba(x).argmax(axis=1)]
        return found


def probabilities(module: Any, x: Any, device: Any, classes: int) -> NDArray[np.float64]:
    """Softmax of a module's logits, some rows at a time."""
    import torch

    module = module.to(device).eval()
    found = np.zeros((x.shape[0], classes))
    with torch.inference_mode(), threads(min(len(found), ROWS) * x.shape[1]):
        for first in range(0, x.shape[0], ROWS):
            logits = module(tensor_of(x[first : first + ROWS], device)).double()
            found[first : first + ROWS] = torch.softmax(logits, dim=1).cpu().numpy()
    return found


@contextmanager
def threads(values: int) -> Iterator[None]:
    """One thread for mini-batches of few values, at which threads wait for each other."""
    import torch

    before = torch.get_num_threads()
    if values < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tensor_of(x: Any, device: Any) -> Any:
    """Prepared rows as float32; those of a sparse matrix as dense ones."""
    import torch

    dense = x.toarray() if hasattr(x, "toarray") else x
    return torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32)).to(device)

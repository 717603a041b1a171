"""PyTorch modules, trained by mini-batches on the GPU where a site has one.

Sites with and without a GPU take part in one run: what moves are float32 arrays of the CPU.
PyTorch is imported when it is needed, not with this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord

from fedsm.errors import ConfigError
from fedsm.learning.models import nets
from fedsm.learning.models.base import Classes, Local, Probabilities
from fedsm.learning.models.settings import Reader, Steps, sample_weights
from fedsm.learning.preparation import Summary

OPTIMIZERS = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
}
"""Names of ``torch.optim``; each begins afresh in every round."""


@dataclass(frozen=True)
class _Settings:
    steps: Steps
    optimizer: str
    learning_rate: float
    weight_decay: float
    hidden: tuple[int, ...]
    seed: int


class PyTorchAdapter:
    """A module whose logits are as many as the classes; the loss is the cross-entropy.

    Hyperparameters: ``hidden-layers`` ("32"; "" for a linear model), ``optimizer`` (``sgd``
    without momentum, ``adam``, ``adamw``, ``nadam``, ``adagrad``, ``rmsprop``), ``learning-rate``
    (0.1 with sgd, else 0.001), ``batch-size`` (32), ``local-steps`` (5) or ``epochs``,
    ``weight-decay`` (0, torch's), ``class-weights``, ``seed``.

    Parameters
    ----------
    code : Path, optional
        Folder of the client code; its ``net.py``, if there is one, makes the module, and there are
        no ``hidden-layers`` then.

    Raises
    ------
    ConfigError
        PyTorch is not installed, or ``net.py`` cannot be read.
    """

    name = "pytorch"

    def __init__(self, code: Path | None = None) -> None:
        if find_spec("torch") is None:
            raise ConfigError(
                "PyTorch is not installed here",
                where="training.model",
                action="pip install 'fedsm[torch]' for the coordinator; for the jobs, an image "
                "with PyTorch or a line torch==... in client_code/requirements.txt",
            )
        self._source = ""
        if code is not None and (file := code / nets.NET).is_file():
            try:
                self._source = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    "cannot be read", where=nets.NET, action="make it readable UTF-8 text"
                ) from error

    def check(self, run_config: Mapping[str, Any]) -> None:
        """See :class:`Adapter`."""
        self._settings(run_config)
        if self._source:
            nets.factory(self._source)

    def initial(self, summary: Summary, run_config: Mapping[str, Any]) -> ArrayRecord:
        """The weights that the module itself draws, by the seed."""
        import torch

        settings = self._settings(run_config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return _record(self._module(summary, settings))

    def fit(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """Mini-batches of the site's rows; FedProx's term and SCAFFOLD's are in the gradients."""
        import torch
        from torch.nn.functional import cross_entropy

        settings, random = self._settings(local.run_config), local.generator()
        device = _device()
        few = nets.threads(settings.steps.batch_size * x.shape[1])
        with few, torch.random.fork_rng():  # the module's own drawing, such as dropout's
            torch.manual_seed(int(random.integers(2**63)))
            module = self._module(local.summary, settings)
            nets.set_weights(module, _arrays(arrays))
            module.to(device).train()
            start = {name: w.detach().clone() for name, w in module.named_parameters()}
            add = {
                name: torch.tensor(value, device=device)
                for name, value in _arrays(local.correction or ArrayRecord()).items()
            }
            weights = sample_weights(local, y)
            of_rows = None if weights is None else nets.tensor_of(weights, device)
            labels = torch.tensor(y, dtype=torch.long, device=device)
            optimizer = getattr(torch.optim, OPTIMIZERS[settings.optimizer])(
                module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
            )
            for batch in settings.steps.batches(x.shape[0], random):
                at = torch.tensor(batch, device=device)
                optimizer.zero_grad()
                logits = module(nets.tensor_of(x[batch], device))
                losses = cross_entropy(logits, labels[at], reduction="none")
                # Not divided by the weights' sum, which differs between batches and sites.
                (losses if of_rows is None else losses * of_rows[at]).mean().backward()
                with torch.no_grad():
                    for name, w in module.named_parameters():
                        if w.grad is not None:
                            if local.proximal_mu:
                                w.grad += local.proximal_mu * (w - start[name])
                            if name in add:
                                w.grad += add[name]
                optimizer.step()
            return _record(module)

    def gradient(self, arrays: ArrayRecord, x: Any, y: Classes, local: Local) -> ArrayRecord:
        """Of the site's mean loss and decay at the global weights, without dropout; for SCAFFOLD.

        Batch normalisation uses its running statistics, whose own gradient is 0.
        """
        import torch
        from torch.nn.functional import cross_entropy

        settings, device = self._settings(local.run_config), _device()
        module = self._module(local.summary, settings)
        nets.set_weights(module, _arrays(arrays))
        module.to(device).eval()
        weights = sample_weights(local, y)
        with nets.threads(min(x.shape[0], nets.ROWS) * x.shape[1]):
            for first in range(0, x.shape[0], nets.ROWS):
                at = slice(first, first + nets.ROWS)
                losses = cross_entropy(
                    module(nets.tensor_of(x[at], device)),
                    torch.tensor(y[at], dtype=torch.long, device=device),
                    reduction="none",
                )
                if weights is not None:
                    losses = losses * nets.tensor_of(weights[at], device)
                (losses.sum() / x.shape[0]).backward()
        found = {name: np.zeros(array.shape, np.float32) for name, array in arrays.items()}
        for name, w in module.named_parameters():
            if w.grad is not None:
                found[name] = (w.grad + settings.weight_decay * w).detach().cpu().float().numpy()
        return ArrayRecord({name: Array(value) for name, value in found.items()})

    def predict(
        self, arrays: ArrayRecord, x: Any, summary: Summary, run_config: Mapping[str, Any]
    ) -> Probabilities:
        """See :class:`Adapter`."""
        module = self._module(summary, self._settings(run_config))
        nets.set_weights(module, _arrays(arrays))
        return nets.probabilities(module, x, _device(), len(summary.classes))

    def build(self, arrays: ArrayRecord, summary: Summary, run_config: Mapping[str, Any]) -> Any:
        """The preparation and a :class:`fedsm.learning.models.nets.NetClassifier`."""
        from sklearn.pipeline import Pipeline

        settings = self._settings(run_config)
        weights = {name: value.astype(np.float32) for name, value in _arrays(arrays).items()}
        nets.set_weights(self._module(summary, settings), weights)  # they fit, or an error says so
        model = nets.NetClassifier(self._source, settings.hidden)
        model.set(weights, len(summary.inputs), summary.classes)
        return Pipeline([*summary.steps(), ("model", model)])

    def _module(self, summary: Summary, settings: _Settings) -> Any:
        return nets.make(self._source, settings.hidden, len(summary.inputs), len(summary.classes))

    def _settings(self, run_config: Mapping[str, Any]) -> _Settings:
        reader = Reader(self.name, run_config)
        optimizer = reader.choice("optimizer", "sgd", tuple(OPTIMIZERS))
        reader.skip("class-weights")
        if self._source and reader.given("hidden-layers"):
            reader.fault("hidden-layers", "net.py has its own layers")
        found = _Settings(
            steps=Steps.read(reader, local_steps=5, batch_size=32),
            optimizer=optimizer,
            learning_rate=reader.number("learning-rate", 0.1 if optimizer == "sgd" else 1e-3),
            weight_decay=reader.number("weight-decay", 0.0, zero=True),
            hidden=reader.layers("hidden-layers", "32"),
            seed=reader.whole("seed", 0, least=0),
        )
        reader.done()
        return found


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _record(module: Any) -> ArrayRecord:
    return ArrayRecord({name: Array(w) for name, w in nets.weights_of(module).items()})


def _arrays(record: ArrayRecord) -> dict[str, Any]:
    return {name: array.numpy() for name, array in record.items()}

"""The processes of each path of :mod:`benchmarks.rounds`.

``python -m benchmarks._round_peers PATH ROLE JSON``. A coordinator says where it listens, and then,
after each block of rounds that it is told to run, the seconds that each took. Both paths do the
same local work on the same rows.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks._processes import free_port, localhost_certificate, say, wait_for_go

T = TypeVar("T")

FEATURES, ROWS, STEPS = 30, 140, 5


class LogisticRegression:
    """A site's rows, and a few gradient steps on them."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.x = random.normal(size=(ROWS, FEATURES))
        self.y = (self.x[:, 0] + random.normal(size=ROWS) > 0).astype(float)

    def fit(self, weights: list[Any]) -> list[Any]:
        """Coefficients (30,) and intercept (1,) after the steps."""
        coefficients, intercept = weights
        for _ in range(STEPS):
            error = self._probability(coefficients, intercept) - self.y
            coefficients = coefficients - 0.1 * self.x.T @ error / ROWS
            intercept = intercept - 0.1 * error.mean(keepdims=True)
        return [coefficients, intercept]

    def evaluate(self, weights: list[Any]) -> tuple[float, float]:
        """Log loss and accuracy."""
        p = self._probability(*weights).clip(1e-9, 1 - 1e-9)
        loss = -np.mean(self.y * np.log(p) + (1 - self.y) * np.log(1 - p))
        return float(loss), float(np.mean((p > 0.5) == self.y))

    def _probability(self, coefficients: Any, intercept: Any) -> Any:
        return 1 / (1 + np.exp(-(self.x @ coefficients + intercept)))


def initial() -> list[Any]:
    """The model before round 1."""
    return [np.zeros(FEATURES), np.zeros(1)]


def fedsm_coordinator(sites: int, blocks: int, rounds: int) -> None:
    """Stock FedAvg in fedsm's round loop, with its journal and checkpoints."""
    from flwr.app import ArrayRecord
    from flwr.serverapp.strategy import FedAvg

    from benchmarks._fedsm import open_grid
    from fedsm.events import Journal
    from fedsm.training import Loop, Rounds

    names = tuple(f"site-{i}" for i in range(sites))
    grid, certificate, port = open_grid(names)
    say(port=port, certificate=certificate.der_base64)
    assert len(grid.wait_for_sites(sites, 300)) == sites
    turns = _Turns(rounds)
    with tempfile.TemporaryDirectory() as directory:
        Loop(
            grid,
            FedAvg(min_train_nodes=sites, min_evaluate_nodes=sites, min_available_nodes=sites),
            Rounds(blocks * rounds, names, sites, 300, 60, seed=1, prepare=None),
            Journal(Path(directory) / "events.jsonl"),
            Path(directory),
            initial=lambda _: turns.begin(ArrayRecord(initial())),
            config_fn=lambda _: {"lr": 0.1},
            stopping=turns.next,
        ).run()
    grid.finish(None, 10)
    grid.close()


class _Turns:
    """Time whole rounds and hold the loop between blocks.

    The loop asks before each round whether to stop, which it never is.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._seconds: list[float] = []
        self._start: float | None = None
        self._begun = False

    def begin(self, arrays: T) -> T:
        """Hand on the first model: rounds follow."""
        self._begun = True
        say(ready=True)
        return arrays

    def next(self) -> bool:
        """A round is about to begin."""
        if not self._begun:
            return False
        if self._start is not None:
            self._seconds.append(time.perf_counter() - self._start)
        if self._start is None or len(self._seconds) == self._rounds:
            if self._seconds:
                say(seconds=self._seconds)
                self._seconds = []
            wait_for_go()
        self._start = time.perf_counter()
        return False


def fedsm_client(site: int, port: int, certificate: str) -> None:
    """A stock ClientApp behind a session."""
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    from benchmarks._fedsm import open_session

    def arrays_of(message: Message) -> list[Any]:
        record = message.content["arrays"]
        assert isinstance(record, ArrayRecord)
        return record.to_numpy_ndarrays()

    model = LogisticRegression(site)
    app = ClientApp()

    @app.train()
    def train(message: Message, _context: Context) -> Message:
        weights = model.fit(arrays_of(message))
        loss, _ = model.evaluate(weights)
        metrics = MetricRecord({"num-examples": ROWS, "loss": loss})
        content = RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, _context: Context) -> Message:
        loss, accuracy = model.evaluate(arrays_of(message))
        metrics = MetricRecord({"num-examples": ROWS, "loss": loss, "accuracy": accuracy})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    session = open_session(f"site-{site}", port, base64.b64decode(certificate))
    session.serve(lambda message: app(message, context))


def legacy_coordinator(sites: int, blocks: int, rounds: int) -> None:
    """Flower's legacy server with its own FedAvg, server TLS."""
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerConfig, start_server
    from flwr.server.strategy import FedAvg

    seconds: list[float] = []

    class Timed(FedAvg):
        start = 0.0

        def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
            if (server_round - 1) % rounds == 0:
                if server_round == 1:
                    client_manager.wait_for(sites)
                    say(ready=True)
                wait_for_go()
            self.start = time.perf_counter()
            return super().configure_fit(server_round, parameters, client_manager)

        def aggregate_evaluate(self, server_round: int, results: Any, failures: Any) -> Any:
            aggregated = super().aggregate_evaluate(server_round, results, failures)
            assert len(results) == sites, failures
            seconds.append(time.perf_counter() - self.start)
            if len(seconds) == rounds:
                say(seconds=list(seconds))
                seconds.clear()
            return aggregated

    def weighted(metrics: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
        total = sum(n for n, _ in metrics)
        return {
            key: sum(n * float(values[key]) for n, values in metrics) / total
            for key in metrics[0][1]
        }

    port = free_port()
    certificate, key = localhost_certificate()
    say(port=port, certificate=base64.b64encode(certificate).decode())
    start_server(
        server_address=f"127.0.0.1:{port}",
        config=ServerConfig(num_rounds=blocks * rounds),
        strategy=Timed(
            min_fit_clients=sites,
            min_evaluate_clients=sites,
            min_available_clients=sites,
            initial_parameters=ndarrays_to_parameters(initial()),
            on_fit_config_fn=lambda _: {"lr": 0.1},
            on_evaluate_config_fn=lambda _: {"lr": 0.1},
            fit_metrics_aggregation_fn=weighted,
            evaluate_metrics_aggregation_fn=weighted,
        ),
        certificates=(certificate, certificate, key),
    )


def legacy_client(site: int, port: int, certificate: str) -> None:
    """A NumPyClient behind Flower's legacy client."""
    from flwr.client import NumPyClient, start_client

    model = LogisticRegression(site)

    class Client(NumPyClient):
        def fit(self, parameters: Any, config: Any) -> Any:
            weights = model.fit(parameters)
            return weights, ROWS, {"loss": model.evaluate(weights)[0]}

        def evaluate(self, parameters: Any, config: Any) -> Any:
            loss, accuracy = model.evaluate(parameters)
            return loss, ROWS, {"accuracy": accuracy}

    start_client(
        server_address=f"localhost:{port}",
        client=Client().to_client(),
        root_certificates=base64.b64decode(certificate),
        max_wait_time=60,
    )


ROLES: dict[tuple[str, str], Callable[..., None]] = {
    ("fedsm", "coordinator"): fedsm_coordinator,
    ("fedsm", "client"): fedsm_client,
    ("flower-legacy", "coordinator"): legacy_coordinator,
    ("flower-legacy", "client"): legacy_client,
}

if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.ERROR)
    ROLES[sys.argv[1], sys.argv[2]](**json.loads(sys.argv[3]))

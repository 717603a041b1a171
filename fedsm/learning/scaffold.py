"""SCAFFOLD: federated averaging whose local steps are corrected for the sites' differences.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML.
A site that takes several steps drifts towards its own optimum. It subtracts its own gradient and
adds the federation's, both known from the round before, from every gradient of its steps:

    g_k(y) + c - c_k,    c_k = grad F_k(x) at the last global x it was asked at,  c = sum_k p_k c_k

with ``p_k`` its share of the rows. At the pooled optimum every corrected gradient is zero whatever
the number and length of the steps, so that is where the rounds end. ``c_k`` is the paper's option
I: the mean of the gradients along the way (option II) is not known where steps are shortened.

The coordinator keeps the ``c_k`` and sends each site its ``c - c_k``. A site keeps nothing: one
whose job starts anew goes on as before, one that was never heard takes its gradient at the present
``x`` for ``c_k``, and one that is gone is in ``c`` no longer, nor in the objective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fedsm.learning.controls import ANEW, join, split
from fedsm.metric_names import WEIGHT

Vectors = dict[str, NDArray[Any]]
AggregateFn = Callable[[list[RecordDict], str], MetricRecord]


class Scaffold(FedAvg):
    """Averaging with control variates.

    Parameters
    ----------
    server_learning_rate : float
        Share of the averaged update that is taken; 1 is averaging.
    server_momentum : float
        How much of the last round's update is added to this round's, at least 0 and below 1; as in
        FedAvgM.
    fraction_train, fraction_evaluate : float
        Share of the live sites that each round asks.

    Others are Flower's.
    """

    def __init__(
        self,
        server_learning_rate: float = 1.0,
        server_momentum: float = 0.0,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        weighted_by_key: str = WEIGHT,
        train_metrics_aggr_fn: AggregateFn | None = None,
        evaluate_metrics_aggr_fn: AggregateFn | None = None,
    ) -> None:
        if not 0 < server_learning_rate < np.inf:
            raise ValueError("server_learning_rate must be above 0")
        if not 0 <= server_momentum < 1:
            raise ValueError("server_momentum must be at least 0 and below 1")
        super().__init__(
            fraction_train=fraction_train,
            fraction_evaluate=fraction_evaluate,
            min_train_nodes=min_train_nodes,
            min_evaluate_nodes=min_evaluate_nodes,
            min_available_nodes=min_available_nodes,
            weighted_by_key=weighted_by_key,
            train_metrics_aggr_fn=train_metrics_aggr_fn,
            evaluate_metrics_aggr_fn=evaluate_metrics_aggr_fn,
        )
        self._rate, self._momentum = server_learning_rate, server_momentum
        self._velocity: Vectors = {}
        self._arrays = ArrayRecord()
        self._controls: dict[int, tuple[float, Vectors]] = {}

    def reply_arrays(self) -> ArrayRecord:
        """Names, shapes and types of the arrays that an answer to this round holds."""
        return join(self._arrays, _values(self._arrays))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model, and to each site its own correction."""
        self._arrays = arrays
        asked = list(super().configure_train(server_round, arrays, config, grid))
        mean = self._mean(set(grid.get_node_ids()))
        messages = []
        for message in asked:
            node = message.metadata.dst_node_id
            _, own = self._controls.get(node, (0.0, None))
            # Before any control is known, nobody is corrected: the first round is averaging.
            anew = mean is not None and own is None
            correction = _zeros(arrays)
            for name in correction:
                if mean is not None:
                    correction[name] = mean[name] - (0.0 if own is None else own[name])
            content = RecordDict(
                {
                    self.arrayrecord_key: join(arrays, correction),
                    self.configrecord_key: ConfigRecord({**config, ANEW: anew}),
                }
            )
            kind = message.metadata.message_type
            messages.append(Message(content=content, message_type=kind, dst_node_id=node))
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Keep the sites' controls; average their models."""
        replies = list(replies)
        for reply in replies:
            if reply.has_error():
                continue
            (key, record), *_ = reply.content.array_records.items()
            model, control = split(record)
            if control is None:
                raise ValueError("a site answered without a control")
            metrics = next(iter(reply.content.metric_records.values()))
            weight = float(cast(float, metrics[self.weighted_by_key]))
            self._controls[reply.metadata.src_node_id] = (weight, _values(control))
            reply.content[key] = model
        averaged, told = super().aggregate_train(server_round, replies)
        return None if averaged is None else self._step(_values(averaged)), told

    def _step(self, averaged: Vectors) -> ArrayRecord:
        """From the arrays that were sent, by the averaged update and the momentum."""
        parts = {}
        for name, before in _values(self._arrays).items():
            velocity = averaged[name] - before + self._momentum * self._velocity.get(name, 0.0)
            self._velocity[name] = velocity
            parts[name] = Array((before + self._rate * velocity).astype(before.dtype))
        return ArrayRecord(parts)

    def _mean(self, live: set[int]) -> Vectors | None:
        """The controls' mean over the live sites whose control is known, by their weights."""
        known = [found for node, found in sorted(self._controls.items()) if node in live]
        total = sum(weight for weight, _ in known)
        if not total:
            return None
        return {
            name: np.sum([weight / total * control[name] for weight, control in known], axis=0)
            for name in known[0][1]
        }


def _values(arrays: ArrayRecord) -> Vectors:
    return {name: array.numpy() for name, array in arrays.items()}


def _zeros(arrays: ArrayRecord) -> Vectors:
    return {name: np.zeros(tuple(a.shape), dtype=a.dtype) for name, a in arrays.items()}

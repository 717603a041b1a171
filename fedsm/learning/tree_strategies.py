"""Flower's two strategies for XGBoost, over trees that were checked.

They differ from Flower's own in this: bagging takes all of a site's new trees with their classes
(Flower's takes the first, as one of class 0); cyclic training is evaluated at all sites (Flower's
at one); a site's trees are put into the coordinator's document, never the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedXgbBagging, FedXgbCyclic

from fedsm.learning import trees
from fedsm.metric_names import WEIGHT

AggregateFn = Callable[[list[RecordDict], str], MetricRecord]


class Bagging(FedXgbBagging):
    """All sites grow trees for the same model at once, and all are taken.

    Source: Flower's ``FedXgbBagging``; takes its options.
    """

    _model: ArrayRecord

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As Flower's; tells the sites how many they are."""
        self._model = arrays
        config[trees.NEW_TREES] = True
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for content in {id(message.content): message.content for message in messages}.values():
            content.config_records[self.configrecord_key][trees.BAGGED] = len(messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The model with the trees of all sites, in the order of the replies."""
        usable, _ = self._check_and_log_replies(replies, is_train=True)
        if not usable:
            return None, None
        model = trees.read(self._model)
        for message in usable:
            model = trees.joined(model, trees.read(_first(message)))
        metrics = self.train_metrics_aggr_fn([m.content for m in usable], self.weighted_by_key)
        return trees.record(model), metrics


class Cyclic(FedXgbCyclic):
    """One site a round grows trees, in turn.

    Source: Flower's ``FedXgbCyclic``; takes its options.
    """

    _model: ArrayRecord

    def __init__(
        self,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        weighted_by_key: str = WEIGHT,
        train_metrics_aggr_fn: AggregateFn | None = None,
        evaluate_metrics_aggr_fn: AggregateFn | None = None,
    ) -> None:
        super().__init__(
            fraction_train=fraction_train,
            fraction_evaluate=fraction_evaluate,
            min_available_nodes=min_available_nodes,
            weighted_by_key=weighted_by_key,
            train_metrics_aggr_fn=train_metrics_aggr_fn,
            evaluate_metrics_aggr_fn=evaluate_metrics_aggr_fn,
        )
        # Flower's constructor knows two alone, and would wait for them.
        self.min_train_nodes, self.min_evaluate_nodes = min_train_nodes, min_evaluate_nodes

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As Flower's."""
        self._model = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The model with the trees that the site added."""
        found, metrics = super().aggregate_train(server_round, replies)
        if found is None:
            return None, metrics
        model = trees.read(self._model)
        new = trees.after(trees.read(found), len(trees.booster(model)["trees"]))
        return trees.record(trees.joined(model, new)), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """At all sites."""
        return FedAvg.configure_evaluate(self, server_round, arrays, config, grid)


def growth(strategy: Any, arrays: ArrayRecord) -> trees.Growth | None:
    """What a reply's trees must be like; None for a strategy of arrays."""
    if isinstance(strategy, Bagging | Cyclic):
        return trees.Growth(arrays, whole=isinstance(strategy, Cyclic))
    return None


def _first(message: Message) -> ArrayRecord:
    return next(iter(message.content.array_records.values()))

"""The round loop over a Flower ``Strategy``: quorum, deadline, checks, checkpoint.

One readable function, ``train``, goes through the rounds; everything it needs of the world is given
to it: a grid, a strategy, a journal and callables.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.exception import InconsistentMessageReplies
from flwr.serverapp.strategy import Strategy

from fedsm.best import BestRound
from fedsm.errors import ConfigError, FedsmError, JobError, QuorumLost, StoppedEarly, TrainingError
from fedsm.events import Journal
from fedsm.exchange import Exchange
from fedsm.learning import checks
from fedsm.learning.arrays import in_types_of, save_npz
from fedsm.learning.preparation import Summary
from fedsm.learning.strategies import (
    finished,
    needed_metrics,
    reply_arrays,
    seeded,
    weight_key,
)
from fedsm.preparing import prepare
from fedsm.training_config import Best, Prepare
from fedsm.transport.site_grid import SiteGrid
from fedsm.transport.snapshot import Snapshot

Metrics = dict[str, Any]
EvaluateFn = Callable[[int, ArrayRecord, Summary | None], Mapping[str, float]]
ConfigFn = Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Rounds:
    """Settings of the loop; deadlines in seconds."""

    rounds: int
    sites: tuple[str, ...]
    min_sites: int
    join_deadline: float
    round_deadline: float
    seed: int
    prepare: Prepare | None
    best: Best | None = None


@dataclass(slots=True)
class Outcome:
    """What the loop leaves: the global arrays, the preparation and one row a round.

    ``best`` is the round that the arrays are of, where ``training.best`` chose one; else None.
    ``prepared`` is what to tell the sites of the preparation when the run is over.
    """

    arrays: ArrayRecord
    summary: Summary | None
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: bool = False
    best: int | None = None
    prepared: dict[str, Any] = field(default_factory=dict)


ReportFn = Callable[[Exchange, list[int], Outcome], None]


class Loop:
    """One run's rounds.

    Parameters
    ----------
    grid : SiteGrid
        The sites.
    strategy : Strategy
        Any Flower strategy; its minima must not pass ``settings.min_sites``.
    settings : Rounds
        Numbers and deadlines.
    journal : Journal
        Gets every metric and error.
    checkpoints : Path
        Folder for ``round-NNNN.npz``.
    initial : callable, optional
        ``summary -> ArrayRecord``; without it a site is asked by ``query.initial``.
    evaluate_fn : callable, optional
        ``(round, arrays, summary) -> metrics`` on the coordinator's own test rows.
    config_fn : callable, optional
        ``round -> mapping`` of values added to each site's config.
    ended : callable
        Site name to the reason its job ended; sites still running are absent.
    stopping : callable
        Whether to end the run after the round that is under way.
    report : callable, optional
        ``(exchange, live nodes, outcome)``, called once after the last round.
    """

    def __init__(
        self,
        grid: SiteGrid,
        strategy: Strategy,
        settings: Rounds,
        journal: Journal,
        checkpoints: Path,
        *,
        initial: Callable[[Summary | None], ArrayRecord] | None = None,
        evaluate_fn: EvaluateFn | None = None,
        config_fn: ConfigFn | None = None,
        ended: Callable[[], Mapping[str, str]] = dict,
        stopping: Callable[[], bool] = lambda: False,
        report: ReportFn | None = None,
    ) -> None:
        self._grid = grid
        self._strategy = strategy
        self._settings = settings
        self._journal = journal
        self._exchange = Exchange(
            grid,
            journal,
            settings.round_deadline,
            weight=weight_key(strategy),
            needed=needed_metrics(strategy),
        )
        self._checkpoints = checkpoints
        self._initial = initial
        self._evaluate_fn = evaluate_fn
        self._config_fn = config_fn
        self._ended = ended
        self._stopping = stopping
        self._report = report
        self._summary: Summary | None = None
        self._prepared: dict[str, Any] = {}
        self._best = None if settings.best is None else BestRound(settings.best)
        if settings.best is not None and settings.best.of == "server" and evaluate_fn is None:
            raise ConfigError(
                "there are no rows of the server's to measure a round on",
                where="training.best.of",
                action="set training.test or pass evaluate_fn, or measure on the sites",
            )

    def run(self) -> Outcome:
        """Wait for the sites, then go through the rounds.

        Raises
        ------
        JobError
            A job ended before it joined, and too few are left.
        QuorumLost
            Fewer than ``min_sites`` sites are live, or gave a usable reply.
        TrainingError
            The strategy could not aggregate.
        """
        settings = self._settings
        self._wait_for_sites()
        if self._stopping():
            raise StoppedEarly(
                "stopped before round 1", action="train again; no model was made yet"
            )
        if settings.prepare is not None:
            self._summary = prepare(
                self._exchange,
                self._journal,
                self._live,
                settings.prepare,
                min_sites=settings.min_sites,
                too_few=self._too_few,
            )
            self._prepared = self._summary.to_config()
            self._exchange.share(self._prepared)
        arrays = self._initial(self._summary) if self._initial else self._ask_a_site()
        outcome = Outcome(arrays, self._summary)
        for number in range(1, settings.rounds + 1):
            if self._stopping():
                outcome.stopped = True
                break
            began = time.monotonic()
            live = self._quorum()
            self._journal.append(
                "round-started", round=number, sites=[self._grid.site_of(n) for n in live]
            )
            outcome.arrays, train = self._train(number, outcome.arrays, live)
            self._checkpoint(number, outcome.arrays)
            evaluate = self._evaluate(number, outcome.arrays)
            server = self._serve_evaluate(number, outcome.arrays)
            row = {
                "round": number,
                "seconds": time.monotonic() - began,
                "train": train,
                "evaluate": evaluate,
                "server": server,
            }
            self._journal.append("round-ended", **row, traffic=self._exchange.traffic("round"))
            outcome.history.append(row)
            if self._best is not None:
                self._best.see(row, outcome.arrays)
            if finished(self._strategy) or (self._best is not None and self._best.exhausted):
                break
        self._choose(outcome)
        if self._report is not None and outcome.history:
            self._report(self._exchange, self._live(), outcome)
        left = [site for site in settings.sites if site not in self._ended()]
        outcome.prepared = self._exchange.for_all(left, self._live())
        return outcome

    def _choose(self, outcome: Outcome) -> None:
        """Go back to the best round's arrays; where the metric never had a value, stay."""
        best = self._best
        if best is None or not outcome.history:
            return
        if best.arrays is not None:
            outcome.arrays, outcome.best = best.arrays, best.number
        early = best.exhausted and len(outcome.history) < self._settings.rounds
        self._journal.append("best-round", **best.told(), early=early)

    # Joining and quorum

    def _wait_for_sites(self) -> None:
        settings = self._settings
        deadline = time.monotonic() + settings.join_deadline
        while not self._stopping():
            ended = self._ended()
            live = self._live()
            hoped = [site for site in settings.sites if site not in ended]
            if len(hoped) < settings.min_sites:
                raise JobError(
                    f"{_grouped(ended)} (the job ended before it joined)",
                    action="let the site's owner read the job's log and mend the cause",
                )
            if len(live) >= len(hoped):
                return
            left = deadline - time.monotonic()
            if left <= 0:
                if len(live) >= settings.min_sites:
                    return
                names = {self._grid.site_of(node) for node in live}
                missing = [site for site in hoped if site not in names]
                raise QuorumLost(
                    f"{len(live)} of {settings.min_sites} sites joined in "
                    f"{settings.join_deadline:g} s; missing: {', '.join(missing)}",
                    where=", ".join(missing),
                    action="check the site's job status, and that its subnets reach the "
                    "coordinator's address and port",
                )
            self._grid.wait_for_sites(len(hoped), min(0.2, left))

    def _live(self) -> list[int]:
        return sorted(self._grid.get_node_ids())

    def _quorum(self) -> list[int]:
        """Live nodes, once they are enough; a dropped site has the round's deadline to return."""
        settings = self._settings
        deadline = time.monotonic() + settings.round_deadline
        while True:
            live = self._live()
            if len(live) >= settings.min_sites:
                return live
            ended = self._ended()
            possible = [site for site in settings.sites if site not in ended]
            if len(possible) < settings.min_sites or time.monotonic() > deadline:
                why = f": {_grouped(ended)}" if ended else ""
                raise QuorumLost(
                    f"{len(live)} live sites, min_sites is {settings.min_sites}{why}",
                    action="mend the sites that left, or lower training.min_sites",
                )
            self._grid.wait_for_sites(settings.min_sites, 0.2)

    # Phases of a round

    def _train(
        self, number: int, arrays: ArrayRecord, live: Sequence[int]
    ) -> tuple[ArrayRecord, Metrics]:
        with seeded(self._settings.seed, number):
            messages = list(
                self._strategy.configure_train(
                    number, arrays, self._config(number), Snapshot(self._grid, live)
                )
            )
        expected = reply_arrays(self._strategy, arrays) if messages else arrays
        replies = self._exchange.models(number, "train", messages, expected)
        # A strategy may ask fewer: fedxgb-cyclic one a round.
        if len(replies) < min(self._settings.min_sites, len(messages)):
            raise self._too_few(number, "train", len(replies))
        aggregated, metrics = self._aggregate(
            number, lambda: self._strategy.aggregate_train(number, replies)
        )
        if aggregated is None:
            return arrays, dict(metrics or {})
        aggregated = in_types_of(aggregated, arrays)
        if found := checks.values_fault(aggregated):
            raise TrainingError(
                f"round {number}: the aggregated arrays cannot be used: {found}",
                action="lower the learning rate of sites or strategy; the last checkpoint is good",
            )
        return aggregated, dict(metrics or {})

    def _evaluate(self, number: int, arrays: ArrayRecord) -> Metrics:
        live = self._quorum()
        with seeded(self._settings.seed, -number):
            messages = list(
                self._strategy.configure_evaluate(
                    number, arrays, self._config(number), Snapshot(self._grid, live)
                )
            )
        replies = self._exchange.models(number, "evaluate", messages, None)
        if not replies:
            return {}
        metrics = self._aggregate(
            number, lambda: self._strategy.aggregate_evaluate(number, replies)
        )
        return dict(metrics or {})

    def _serve_evaluate(self, number: int, arrays: ArrayRecord) -> Metrics:
        if self._evaluate_fn is None:
            return {}
        evaluate = self._evaluate_fn
        return _hook("evaluate_fn", number, lambda: dict(evaluate(number, arrays, self._summary)))

    def _config(self, number: int) -> ConfigRecord:
        values: dict[str, Any] = {}
        if (config := self._config_fn) is not None:
            values = _hook("config_fn", number, lambda: dict(config(number)))
        return ConfigRecord(values | self._prepared)

    def _aggregate(self, number: int, aggregate: Callable[[], Any]) -> Any:
        try:
            return aggregate()
        except (
            InconsistentMessageReplies,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise TrainingError(
                f"{type(self._strategy).__name__} could not aggregate round {number}: {error}",
                action="check the strategy's options against the number of sites, and that the "
                "client code of all sites returns the same arrays and metrics",
            ) from error

    def _too_few(self, number: int, phase: str, usable: int) -> QuorumLost:
        # A site whose job is over says why better than its last message.
        found = {**self._exchange.faults, **self._ended()}
        why = f" ({_grouped(found)})" if found else ""
        return QuorumLost(
            f"round {number}: {usable} usable replies to {phase}, "
            f"min_sites is {self._settings.min_sites}{why}",
            action="read the site-error lines of the journal; `fedsm history` shows them",
        )

    # Before round 1

    def _ask_a_site(self) -> ArrayRecord:
        for node in self._live():
            replies, _ = self._exchange.query("initial", [node], self._prepared)
            for site, content in replies.items():
                found: str | None = "it answered without arrays"
                for record in content.array_records.values():
                    found = checks.initial_fault(record)
                    if found is None:
                        self._journal.append("initial", site=site)
                        return record
                self._exchange.fault(0, "query.initial", site, str(found))
        raise TrainingError(
            "no site answered query.initial with arrays",
            action="give the first arrays: training.model, training.initial: FILE.npz, or "
            "train(initial=...)",
        )

    def _checkpoint(self, number: int, arrays: ArrayRecord) -> None:
        path = self._checkpoints / f"round-{number:04d}.npz"
        save_npz(path, arrays)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._journal.append("checkpoint", round=number, path=str(path), sha256=digest)


def _grouped(ended: Mapping[str, str]) -> str:
    """Sites by the reason their jobs ended: ``a, b: reason; c: another``."""
    sites: dict[str, list[str]] = {}
    for site, reason in sorted(ended.items()):
        sites.setdefault(reason, []).append(site)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in sites.items())


def _hook(name: str, number: int, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Call what the user gave; its error names it and the round."""
    try:
        return call()
    except FedsmError:
        raise
    except Exception as error:
        raise TrainingError(
            f"{name} failed in round {number}: {type(error).__name__}: {error}",
            action=f"mend {name}; the checkpoint of the last round is kept",
        ) from error

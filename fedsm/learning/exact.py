"""Exact logistic regression over sites: the pooled rows' optimum, from sums alone.

    F(w) = sum_k L_k(w) + |coef|^2 / (2 C)

is scikit-learn's objective divided by ``C``; ``L_k`` is the summed loss of site ``k`` (see
``exact_objective``). A round evaluates F once: every site gets the same point and answers with its
loss and gradient; the coordinator adds them up and asks for the next point. With few coefficients
the sites' Hessians make Newton steps. With many, L-BFGS works over a preconditioner from blocks of
single variables, which the sites send once.

F is defined by the sites in it. A round in which one is missing is repeated with the same point;
if it stays away, F is redefined over the sites still there, and over all when it comes back. A site
whose sums no rows can have is left out for the rest of the run.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedsm.errors import ConfigError, TrainingError
from fedsm.learning import exact_site as site
from fedsm.learning.exact_objective import Matrix
from fedsm.learning.exact_solver import Options, Solver, implausible
from fedsm.learning.exact_weights import class_weights
from fedsm.learning.metrics import aggregate_metrics
from fedsm.metric_names import WEIGHT

SEPARATED = 1e-5
"""A step separates the rows if none loses more than this share of what another gains by it."""

DROWNED = 1e8
"""A site whose Hessian is so many times the largest other one is why the sum cannot be solved."""


class SeparatedData(TrainingError):  # noqa: N818
    """Without a penalty no finite coefficients minimise the loss."""


class NotConverged(TrainingError):  # noqa: N818
    """The rounds ended before the tolerance was met."""


class Exact(Strategy):
    """Newton's method or preconditioned L-BFGS on summed losses, one evaluation a round.

    Parameters
    ----------
    c : float
        Inverse strength of the L2 penalty, as in scikit-learn on the pooled rows.
    penalty : str
        ``l2`` or ``none``; the intercept is never penalised.
    class_weight : dict, "balanced" or None
        Label to weight, or weights inverse to the federation's class counts, as in scikit-learn.
    solver : str
        ``newton``, ``lbfgs``, or ``auto``: Newton up to ``newton_limit`` coefficients.
    newton_limit : int
        Halves of three Hessians leave a site in a round: 12 MB for 1,000 coefficients.
    windows : int
        L-BFGS: features are this many repetitions, one after the other, of the same variables, and
        the preconditioner has one block of that size a variable; 1 makes it diagonal.
    memory : int
        L-BFGS: steps remembered.
    directions : int
        L-BFGS: eigenvectors of the blocks whose couplings are sent once too, 2 MB a site for 1,000;
        0 for none, which saves the second round.
    coef_tolerance : float
        Newton ends when the largest error of a coefficient, as quadratic convergence predicts it,
        is this share of the largest coefficient.
    objective_tolerance : float
        L-BFGS ends when its model predicts that less than this share of F is still to go, and the
        last ten rounds brought no more.
    repeats : int
        Rounds in a row that are repeated for a missing site.
    unconverged : str
        ``error`` or ``warn`` when the rounds end first.
    evaluate_every : int or None
        Rounds between evaluations, 0 for none but at the end; None is 1 with Newton and 0 with
        L-BFGS, whose points are large.
    rounds : int or None
        Rounds of the run; without them non-convergence is only told by the metric ``converged``.
    min_available_nodes : int
        Fewer sites do not go on after one is left out for its sums.

    Attributes
    ----------
    finished : bool
        Whether the optimum is reached; from then on no site is asked for anything.
    """

    def __init__(
        self,
        c: float = 1.0,
        penalty: str = "l2",
        class_weight: str | dict[Any, float] | None = None,
        solver: str = "auto",
        newton_limit: int = 1000,
        windows: int = 1,
        memory: int = 30,
        directions: int = 1000,
        coef_tolerance: float = 1e-8,
        objective_tolerance: float = 1e-6,
        repeats: int = 1,
        unconverged: str = "error",
        evaluate_every: int | None = None,
        rounds: int | None = None,
        min_available_nodes: int = 2,
    ) -> None:
        self._options = Options(
            c=c,
            penalty=penalty,
            solver=solver,
            newton_limit=newton_limit,
            windows=windows,
            memory=memory,
            directions=directions,
            coef_tolerance=coef_tolerance,
            objective_tolerance=objective_tolerance,
        )
        if unconverged not in ("error", "warn"):
            raise ValueError("unconverged must be error or warn")
        if isinstance(class_weight, str) and class_weight != "balanced":
            raise ValueError("class_weight must be balanced, or map labels to weights")
        self._class_weight = class_weight
        self._repeats = repeats
        self._unconverged = unconverged
        self._evaluate_every = evaluate_every
        self._rounds = rounds
        self._min_sites = min_available_nodes
        self._refused: set[int] = set()
        self._solver: Solver | None = None
        self._members: frozenset[int] = frozenset()
        self._repeated = self._restarts = 0
        self._evaluated = False

    @property
    def finished(self) -> bool:
        return self._solver is not None and self._solver.finished

    def reply_arrays(self) -> ArrayRecord:
        """Names, shapes and types of the arrays that a site's answer to this round holds."""
        assert self._solver is not None  # noqa: S101
        outputs, width = self._solver.point.shape
        return self._question(self._solver).template(outputs, width)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the point to every site."""
        if self.finished:
            return []
        nodes = sorted(grid.get_node_ids())
        solver = self._solver
        if solver is None:
            solver = self._solver = self._begin(site.to_matrix(arrays), config)
            self._members = frozenset(nodes)
        content = self._question(solver).content(
            solver.point, solver.step, {**config, "server-round": server_round}
        )
        return _messages(content, MessageType.TRAIN, nodes)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Sum the answers; gives the next point, and the metrics of the one that was sent.

        Raises
        ------
        SeparatedData
            The rows are separated and there is no penalty.
        NotConverged
            This was the last round and the tolerance is not met.
        TrainingError
            The summed Hessian is not that of a convex function, or too few sites are left whose
            sums rows can have.
        """
        solver = self._solver
        found = {r.metadata.src_node_id: r.content for r in replies if not r.has_error()}
        if solver is not None:
            found = self._plausible(solver, found)
        if solver is None or not found:
            return None, None
        answers = [found[node] for node in sorted(found)]
        metrics = aggregate_metrics(answers, WEIGHT)
        missing = self._members - found.keys()
        repeat = bool(missing - self._refused) and self._repeated < self._repeats
        self._repeated = self._repeated + 1 if repeat else 0
        if not repeat:
            if found.keys() != self._members:
                self._members = frozenset(found)
                self._restarts += 1
                solver.restart()
            arrays = [answer.array_records["arrays"] for answer in answers]
            if not self._options.strength:
                self._look_for_separation(solver, arrays)
            metrics.update(self._advance(solver, dict(zip(sorted(found), arrays, strict=True))))
        metrics.update(
            {
                "sites": len(self._members),
                "sites-missing": len(missing),
                "repeated": int(repeat),
                "restarts": self._restarts,
                "converged": int(solver.finished),
            }
        )
        if server_round == self._rounds and not solver.finished:
            self._give_up(server_round)
        return site.to_arrays(solver.point), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model to every site, in the rounds that are evaluated."""
        every = self._evaluate_every
        if every is None:
            every = int(self._solver is not None and self._solver.ask == "hessian")
        last = self.finished or server_round == self._rounds
        if self._evaluated or not (last or (every and server_round % every == 0)):
            return []
        self._evaluated = self.finished
        asked = ConfigRecord({**config, "server-round": server_round})
        content = RecordDict({"arrays": arrays, "config": asked})
        return _messages(content, MessageType.EVALUATE, sorted(grid.get_node_ids()))

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The mean over sites, weighted by rows."""
        contents = [reply.content for reply in replies if not reply.has_error()]
        return aggregate_metrics(contents, WEIGHT) if contents else None

    def summary(self) -> None:
        """Log the settings."""
        logging.getLogger("flwr").info("\t└──> exact logistic regression: %s", self._options)

    def _begin(self, start: Matrix, config: ConfigRecord) -> Solver:
        outputs, width = start.shape
        if (width - 1) % self._options.windows:
            raise ConfigError(
                f"{width - 1} features are not {self._options.windows} windows of equal width",
                where="training.options.windows",
                action="give the number of windows that the features repeat, or leave it out",
            )
        labels = _listed(config, "prepare-classes")
        counts = np.array(_listed(config, "prepare-class-counts"), dtype=np.float64)
        self._features = _listed(config, "prepare-features")
        self._weights = class_weights(self._class_weight, max(outputs, 2), labels, counts)
        if len(counts) == len(self._weights) and (counts > 0).all() and not start.any():
            # The optimum of the intercept alone is known: the weighted log-odds.
            odds = np.log(self._weights * counts)
            start[:, -1] = odds if outputs > 1 else odds[1] - odds[0]
        return Solver(start, self._options)

    def _plausible(self, solver: Solver, found: dict[int, RecordDict]) -> dict[int, RecordDict]:
        """Leave out, for good, sites whose sums would spoil everybody's."""
        why = ""
        for node, answer in found.items():
            rows = cast("int", next(iter(answer.metric_records.values()))[WEIGHT])
            most = rows * float(self._weights.max())
            fault = implausible(solver, answer.array_records["arrays"], most)
            if fault and node not in self._refused:
                why = self._refuse(node, fault)
        kept = {node: answer for node, answer in found.items() if node not in self._refused}
        if len(kept) < min(len(found), self._min_sites):
            why = why or f"nodes left out before: {sorted(self._refused)}"
            raise TrainingError(
                f"{len(kept)} sites have sums that rows can have, {self._min_sites} are needed "
                f"({why})",
                action="check the rows and the client code of that site, or run without it",
            )
        return kept

    def _refuse(self, node: int, fault: str) -> str:
        """For good: a site that lies now and then would have F redefined for ever."""
        self._refused.add(node)
        why = f"node {node}: {fault}"
        logging.getLogger("flwr").warning("left out for the rest of the run: %s", why)
        return why

    def _advance(self, solver: Solver, answers: dict[int, ArrayRecord]) -> dict[str, float]:
        """The solver's, without a site whose Hessian leaves nothing but rounding of the others'."""
        try:
            return solver.advance(list(answers.values()))
        except TrainingError:
            sizes = {n: float(np.abs(a["hessian"].numpy()).max()) for n, a in answers.items()}
            odd = max(sizes, key=sizes.__getitem__)
            rest = {node: found for node, found in answers.items() if node != odd}
            if len(rest) < self._min_sites or sizes[odd] < DROWNED * max(sizes[n] for n in rest):
                raise
            self._refuse(odd, "the other sites' Hessians are rounding error beside its own")
            self._members = frozenset(rest)
            self._restarts += 1
            solver.restart()
            return self._advance(solver, rest)

    def _question(self, solver: Solver) -> site.Question:
        return site.Question(
            ask=solver.ask,
            class_weights=tuple(self._weights.tolist()),
            lengths=solver.lengths,
            windows=self._options.windows,
            directions=solver.directions,
            separation=not self._options.strength,
        )

    def _look_for_separation(self, solver: Solver, answers: Sequence[ArrayRecord]) -> None:
        """A point that puts all rows on their side, or a step by which (almost) none loses."""
        extremes = np.array([answer["extremes"].numpy() for answer in answers])
        (margin, least), most = extremes[:, :2].min(axis=0), extremes[:, 2].max()
        if margin > 0 or (most > 0 and least >= -SEPARATED * most):
            largest = int(np.abs(solver.step[:, :-1]).max(axis=0).argmax())
            name = self._features[largest] if self._features else f"number {largest}"
            raise SeparatedData(
                "the training rows are separated: without a penalty the coefficients grow for "
                f"ever, that of feature {name!r} most",
                where="training.options.penalty",
                action="set penalty: l2, or leave out the features that give the label away",
            )

    def _give_up(self, rounds: int) -> None:
        what = f"exact logistic regression has not converged in {rounds} rounds"
        if self._unconverged == "warn":
            from sklearn.exceptions import ConvergenceWarning  # slow to load

            warnings.warn(what, ConvergenceWarning, stacklevel=3)
            return
        hint = "" if self._options.strength else " (or set penalty: l2: the rows may be separated)"
        raise NotConverged(
            what,
            where="training.rounds",
            action=f"raise training.rounds{hint}, or set options.unconverged: warn to take the "
            "model as it is",
        )


def _listed(config: ConfigRecord, key: str) -> list[Any]:
    return list(cast("list[Any]", config.get(key, [])))


def _messages(content: RecordDict, kind: str, nodes: Sequence[int]) -> list[Message]:
    return [Message(content=content, message_type=kind, dst_node_id=node) for node in nodes]

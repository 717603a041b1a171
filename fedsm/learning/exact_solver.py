"""The minimisation of the federation's objective, told one round's answers at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord

from fedsm.errors import TrainingError
from fedsm.learning.exact_descent import Descent, Evaluation, LimitedMemory, Newton
from fedsm.learning.exact_objective import Directions, Matrix
from fedsm.learning.exact_precondition import Preconditioner
from fedsm.learning.exact_site import Ask, coupling_of, curvature_of, to_matrix

SOLVERS = ("auto", "newton", "lbfgs")

LENGTHS = (1.0, 2.0, 0.4)
"""Where a Newton step is evaluated at once: no round is lost on one too long or too short."""


LOOK_BACK = 10
"""Rounds of L-BFGS that must have brought little: its model of the curvature alone is too hopeful
where a few directions converge slowly."""


LARGEST = 1e12
"""No value of a row is thought to be larger, scaled or not."""

SLACK = 1e-6
"""Share by which rounding, to single precision too, may put a sum beyond its bound."""

LOOSE = 1e-3
"""The same of a Hessian's entries beside its diagonal."""


@dataclass(frozen=True)
class Options:
    """Settings of the solver; :class:`fedsm.learning.exact.Exact` describes them."""

    c: float = 1.0
    penalty: str = "l2"
    solver: str = "auto"
    newton_limit: int = 1000
    windows: int = 1
    memory: int = 30
    directions: int = 1000
    coef_tolerance: float = 1e-8
    objective_tolerance: float = 1e-6

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises
        ------
        ValueError
            A value is out of its range.
        """
        for name in ("c", "windows", "memory", "coef_tolerance", "objective_tolerance"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be above 0")
        for name, valid in (("penalty", ("l2", "none")), ("solver", SOLVERS)):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} must be one of {', '.join(valid)}")

    @property
    def strength(self) -> float:
        """Weight of ``|coef|^2 / 2``."""
        return 1.0 / self.c if self.penalty == "l2" else 0.0


class Solver:
    """Newton or L-BFGS on the sums of the sites' answers.

    Parameters
    ----------
    start : ndarray, shape (outputs, features + 1)
        Point to evaluate first.
    options : Options

    Attributes
    ----------
    point, step : ndarray, shape (outputs, features + 1)
        What the sites evaluate next, and the way there from the last accepted point.
    directions : Directions or None
        Whose coupling the sites send in this round.
    finished : bool
        Whether ``point`` is the optimum, within the tolerance.
    """

    def __init__(self, start: Matrix, options: Options) -> None:
        outputs, width = start.shape
        self._options = options
        # With an output for each class, adding a constant to all of them changes no probability:
        # centred ones stay centred.
        self.point = start - start.mean(axis=0) if outputs > 1 else start
        self.step = np.zeros_like(start)
        self.finished = False
        self.directions: Directions | None = None
        self._values: deque[float] = deque(maxlen=LOOK_BACK + 1)
        self._memory: LimitedMemory | None = None
        self._preconditioner: Preconditioner | None = None
        few = start.size <= options.newton_limit
        if options.solver == "newton" or (options.solver == "auto" and few):
            gauge = np.zeros((1, outputs, width))
            gauge[0, :, -1] = outputs**-0.5
            newton = Newton(
                gauge.reshape(1, -1) if outputs > 1 else None, singular=options.strength == 0
            )
            self._descent = Descent(newton)
        else:
            self._memory = LimitedMemory(options.memory)
            self._descent = Descent(self._memory)

    @property
    def ask(self) -> Ask:
        """What the sites send beside loss and gradient."""
        if self._memory is None:
            return "hessian"
        if self._preconditioner is None:
            return "curvature"
        return "gradient" if self.directions is None else "coupling"

    @property
    def lengths(self) -> tuple[float, ...]:
        """Lengths of the step at which the sites evaluate."""
        stepped = self._descent.base is not None
        return LENGTHS if self._memory is None and stepped else LENGTHS[:1]

    def restart(self) -> None:
        """The sites have changed and the objective with them; the point stays."""
        self._descent.restart()
        self._values.clear()

    def advance(self, answers: Sequence[ArrayRecord]) -> dict[str, float]:
        """Take in each site's arrays of this round; move ``point``.

        Returns
        -------
        dict of str to float
            Of the best point so far: ``objective``, and ``gap``, the share of it that is thought to
            be still to go: what the model of the curvature expects, with L-BFGS at least what the
            last ten rounds brought. ``shortened`` is 1 where the step was too long.

        Raises
        ------
        TrainingError
            The summed Hessian is not that of a convex function.
        """
        shape, found = self.point.shape, self._evaluations_of(answers)
        if self._memory is not None:
            self._prepare(self._memory, answers)
        descent = self._descent
        try:
            asked = descent.tell(found)
        except np.linalg.LinAlgError as error:
            raise TrainingError(
                "the sites' Hessians do not add up to that of a convex function",
                action="check the sites' features for values of very different size, lower C, or "
                "use solver: lbfgs",
            ) from error
        base = descent.base
        assert base is not None  # noqa: S101
        self._values.append(base.value)
        going = descent.decrement / 2
        if self._memory is not None:
            gone = self._values[0] - base.value if len(self._values) > LOOK_BACK else np.inf
            going = max(going, min(gone, base.value))
        gap = going / max(base.value, np.finfo(np.float64).tiny)
        told = {
            "objective": base.value,
            "gap": gap,
            "shortened": int(not descent.accepted),
        }
        if self._memory is None:
            largest = float(np.abs(asked.reshape(shape)[:, :-1]).max(initial=0.0))
            self.finished = descent.error <= self._options.coef_tolerance * largest
        elif descent.accepted and gap <= self._options.objective_tolerance:
            # The point evaluated is the one whose gap is known.
            self.finished, asked = True, base.point
        elif self.directions is not None:
            # The coupling belongs to the point that the blocks are of.
            asked = base.point
            descent.restart()
        self.point, self.step = asked.reshape(shape), (asked - base.point).reshape(shape)
        return told

    def _prepare(self, memory: LimitedMemory, answers: Sequence[ArrayRecord]) -> None:
        """Make the preconditioner of what the sites send once, in one round or two."""
        shape, made = self.point.shape, self._preconditioner
        if made is None:
            sites = [curvature_of(a) for a in answers]
            made = self._preconditioner = Preconditioner(sites, self._options.strength)
            memory.precondition = lambda v: made.solve(v.reshape(shape)).ravel()
            if self._options.directions:
                self.directions = made.directions(self._options.directions)
        elif self.directions is not None:
            made.couple([coupling_of(a) for a in answers])
            self.directions = None

    def _evaluations_of(self, answers: Sequence[ArrayRecord]) -> list[Evaluation]:
        """F, its gradient and its Hessian at each length, summed over the sites."""
        penalty = np.full(self.point.shape, self._options.strength)
        penalty[:, -1] = 0.0
        found = []
        for i, length in enumerate(self.lengths):
            w = self.point + (length - 1.0) * self.step
            loss = sum(float(a["losses"].numpy()[i]) for a in answers)
            slopes = [a["trials"].numpy()[i - 1] if i else to_matrix(a) for a in answers]
            hessian = None
            if self.ask == "hessian":
                packed = np.sum([a["hessian"].numpy()[i] for a in answers], axis=0)
                hessian = _whole(packed, w.size) + np.diag(penalty.ravel())
            found.append(
                Evaluation(
                    w.ravel(),
                    loss + float((penalty * w**2).sum()) / 2,
                    (np.sum(slopes, axis=0) + penalty * w).ravel(),
                    hessian,
                    length,
                )
            )
        return found


def _whole(packed: Matrix, size: int) -> Matrix:
    """A symmetric matrix from its lower triangle, row by row."""
    whole = np.zeros((size, size))
    whole[np.tril_indices(size)] = packed
    return whole + np.tril(whole, -1).T


def implausible(solver: Solver, arrays: ArrayRecord, weight: float) -> str | None:
    """Say which of a site's sums no rows can have; None where rows may have them all.

    Parameters
    ----------
    solver : Solver
        As it was when the site was asked.
    arrays : ArrayRecord
        The site's answer, of the form asked for and finite.
    weight : float
        Of all the site's rows at most.
    """
    outputs, width = solver.point.shape
    least, most = -SLACK * (weight + 1.0), (1.0 + SLACK) * weight
    of_point, of_step = _reach(solver.point), _reach(solver.step)
    highest = np.log(outputs + 1.0) + of_point + max(solver.lengths) * of_step
    losses = arrays["losses"].numpy()
    if not (losses.min() >= least and losses.max() <= 2.0 * most * highest):
        return "a loss is below 0 or larger than its rows can give"
    slopes = [to_matrix(arrays), *(arrays["trials"].numpy() if "trials" in arrays else ())]
    for slope in slopes:
        if np.abs(slope[:, :-1]).max(initial=0.0) > most * LARGEST or (
            np.abs(slope[:, -1]).max() > most + SLACK
        ):
            return "its gradient is larger than its rows can give"
    if "hessian" in arrays:
        for packed in arrays["hessian"].numpy():
            if not _is_curvature(_whole(packed, outputs * width), width, most):
                return "its Hessian is not that of a convex function of its rows"
    for name in ("curvature", "coupling"):
        if f"{name}-total" in arrays:
            total = arrays[f"{name}-total"].numpy()
            if not (total.min() >= least and total.max() <= most):
                return f"its {name} is not that of a convex function of its rows"
    if "extremes" in arrays:
        margin, lost, gained = arrays["extremes"].numpy()
        far = (1.0 + SLACK) * of_step + SLACK
        if not (-far <= lost <= gained <= far and abs(margin) <= (1.0 + SLACK) * of_point + SLACK):
            return "its extremes are out of order or larger than its rows can give"
    return None


def _reach(w: Matrix) -> float:
    """How far apart ``w`` may put a row's classes."""
    return float(np.abs(w[:, :-1]).sum() * LARGEST + np.abs(w[:, -1]).sum())


def _is_curvature(whole: Matrix, width: int, weight: float) -> bool:
    """Whether weights of rows, so many in all, may give this Hessian; rounding aside."""
    own = whole.diagonal()
    bound = np.full(width, weight * LARGEST**2)
    bound[-1] = weight
    if (own < -SLACK * weight).any() or (own > np.tile(bound, len(own) // width)).any():
        return False
    # By the diagonal, lest one large feature hides what the others do. Where all probabilities are
    # near 0 and 1, what is left on it is rounding.
    scale = np.sqrt(np.maximum(own, max(1e-10 * own.max(), 1e-9 * weight)))
    unit = whole / scale / scale[:, np.newaxis]
    if (np.abs(unit) > 1.0 + LOOSE).any():
        return False
    try:
        np.linalg.cholesky(unit + LOOSE * np.eye(len(own)))
    except np.linalg.LinAlgError:
        return False
    return True

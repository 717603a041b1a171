"""Descent on a smooth convex function that is evaluated once a round: ask, wait, tell.

Nothing here knows of sites. :class:`Descent` says which point to evaluate next; a direction
(:class:`Newton` or :class:`LimitedMemory`) says where to go from an accepted point. Steps are tried
at full length and shortened only where the function does not decrease enough (Nocedal and Wright
2006, "Numerical Optimization", algorithms 3.1, 7.4 and 7.5).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Vector = NDArray[np.float64]

ARMIJO = 1e-4
"""Share of the decrease that the slope promises which a step must give."""

ROUNDING = 1e-12
"""Relative rounding error of a sum over all rows: no smaller increase counts as one."""

STRETCH = 1.2
"""How many times the decrease of the whole step a longer one must give, to be preferred."""

SHORTEST = 1e-10
"""A step shortened to this is rounding error: the point stays."""


@dataclass(frozen=True)
class Evaluation:
    """The function at one point.

    Attributes
    ----------
    point, gradient : ndarray, shape (n,)
    value : float
    hessian : ndarray, shape (n, n), or None
    length : float
        Where the point lies on the step asked for: 1 at its end.
    """

    point: Vector
    value: float
    gradient: Vector
    hessian: Vector | None = None
    length: float = 1.0


class Direction(Protocol):
    """Where to go from an accepted point."""

    def step(self, at: Evaluation) -> Vector:
        """The full step."""
        ...

    def learn(self, before: Evaluation, after: Evaluation) -> None:
        """Take in an accepted step."""
        ...

    def forget(self) -> None:
        """Drop what was learnt: the function has changed."""
        ...


class Descent:
    """The point to evaluate next.

    Attributes
    ----------
    base : Evaluation or None
        The last accepted point.
    step : ndarray
        From there to the point asked for.
    decrement : float
        ``g' H^-1 g`` at the base, by the direction's own curvature; half of it is the decrease that
        is still to be had where the curvature is right.
    error : float
        Predicted largest error of a coordinate at the point asked for, see :meth:`_predict`.
    accepted : bool
        Whether the last evaluations gave a new base.
    """

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self.restart()

    def restart(self) -> None:
        """Forget all values: the function has changed."""
        self._direction.forget()
        self.base: Evaluation | None = None
        self.step: Vector = np.zeros(0)
        self.decrement = self.error = np.inf
        self.accepted = False
        self._length = 1.0
        self._moved = 0.0

    def tell(self, found: Sequence[Evaluation]) -> Vector:
        """Take in evaluations along the step asked for; give the next point to evaluate.

        The lowest that decreases the function enough is accepted, a longer step than the one asked
        for only where it is well worth it. Where none does, the step is shortened.
        """
        base = self.base
        if base is not None:
            enough = [at for at in found if self._decreased(base, at)]
            self.accepted = bool(enough)
            if not enough:
                self._shorten(base, min(found, key=lambda at: at.length))
                return base.point + self.step
            at = _best(base, enough)
            self._direction.learn(base, at)
            full = self._length * at.length == 1.0
        else:
            at, full, self.accepted = found[0], False, True
        self.base, self._length = at, 1.0
        self.step = self._direction.step(at)
        self.decrement = -float(at.gradient @ self.step)
        if not self.decrement > 0:  # nothing but rounding error is left
            self.step, self.decrement = np.zeros_like(at.point), 0.0
        self._predict(full=full)
        return at.point + self.step

    def _decreased(self, base: Evaluation, at: Evaluation) -> bool:
        length = self._length * at.length
        promised = ARMIJO * length * self.decrement
        return length <= SHORTEST or at.value <= base.value - promised + ROUNDING * abs(base.value)

    def _shorten(self, base: Evaluation, at: Evaluation) -> None:
        """The least of the parabola through value and slope at the base and the value found."""
        length = self._length * at.length
        slope = -length * self.decrement
        least = -slope / (2 * (at.value - base.value - slope))
        shorter = max(length * float(np.clip(least, 0.1, 0.5)), SHORTEST)
        self.step = self.step * (shorter / self._length)
        self._length, self.error = shorter, np.inf

    def _predict(self, *, full: bool) -> None:
        """Extrapolate the quadratic convergence of full steps.

        With errors ``e' = a e^2`` and a step that nearly is the error before it, the error after a
        step ``s`` is ``s (s / r)^2`` where ``r`` is the step before.
        """
        moved = float(np.abs(self.step).max(initial=0.0))
        shrunk = moved / self._moved if self._moved and full else 1.0
        self.error = moved * min(shrunk, 1.0) ** 2
        self._moved = moved


def _best(base: Evaluation, found: Sequence[Evaluation]) -> Evaluation:
    best = min(found, key=lambda at: at.value)
    whole = next((at for at in found if at.length == 1.0), best)
    worth = base.value - best.value >= STRETCH * (base.value - whole.value)
    return best if best.length <= 1.0 or worth else whole


class Newton:
    """Newton's direction.

    Parameters
    ----------
    gauge : ndarray, shape (k, n), optional
        Directions along which the function is flat, and the points asked for stay.
    singular : bool
        Whether the Hessian may be singular otherwise: the step is then the shortest.
    """

    def __init__(self, gauge: Vector | None = None, *, singular: bool = False) -> None:
        self._gauge = gauge
        self._singular = singular

    def step(self, at: Evaluation) -> Vector:
        """``-H^-1 g``.

        Raises
        ------
        numpy.linalg.LinAlgError
            The Hessian is not that of a convex function.
        """
        assert at.hessian is not None  # noqa: S101
        if self._singular:
            values, vectors = linalg.eigh(at.hessian)
            kept = values > len(values) * np.finfo(np.float64).eps * values.max(initial=0.0)
            part = vectors[:, kept]
            return -np.asarray(part @ ((part.T @ at.gradient) / values[kept]))
        hessian = at.hessian
        if self._gauge is not None:
            # Curvature where there is none changes no step: the gradient has no part in it.
            hessian = hessian + np.trace(hessian) / len(hessian) * self._gauge.T @ self._gauge
        return -np.asarray(linalg.cho_solve(linalg.cho_factor(hessian), at.gradient))

    def learn(self, before: Evaluation, after: Evaluation) -> None:
        """Each Hessian stands for itself."""

    def forget(self) -> None:
        """There is nothing to forget."""


class LimitedMemory:
    """L-BFGS over a preconditioner.

    Parameters
    ----------
    memory : int
        Steps remembered.
    """

    def __init__(self, memory: int) -> None:
        self._pairs: deque[tuple[Vector, Vector]] = deque(maxlen=memory)
        self.precondition: Callable[[Vector], Vector] = np.copy
        """Approximate ``H^-1 v``, symmetric and positive definite."""

    def step(self, at: Evaluation) -> Vector:
        """The two-loop recursion, from the preconditioner scaled to the latest step."""
        q = at.gradient.copy()
        weights = []
        for s, y in reversed(self._pairs):
            weights.append(float(s @ q) / float(s @ y))
            q -= weights[-1] * y
        r = self.precondition(q)
        if self._pairs:
            s, y = self._pairs[-1]
            r = r * (float(s @ y) / float(y @ self.precondition(y)))
        for (s, y), weight in zip(self._pairs, reversed(weights), strict=True):
            r = r + (weight - float(y @ r) / float(s @ y)) * s
        return -r

    def learn(self, before: Evaluation, after: Evaluation) -> None:
        """Remember step and change of gradient, where they hold curvature above rounding error."""
        s, y = after.point - before.point, after.gradient - before.gradient
        if float(s @ y) > ROUNDING * float(np.linalg.norm(s) * np.linalg.norm(y)):
            self._pairs.append((s, y))

    def forget(self) -> None:
        """Drop all pairs; the preconditioner stays."""
        self._pairs.clear()

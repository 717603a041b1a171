"""What a site minimises in logistic regression: its share of the federation's objective.

See :mod:`fedsm.learning.logistic`. Sparse rows are centred without being written out: a point
``(w, b_c)`` has the scores ``(x - m) w + b_c``, which are those of ``(w, b_c - m w)`` on the rows
as they are. Without it inputs whose mean is many deviations, as a temperature's, make the objective
so badly conditioned that steps along the gradient hardly move. The map is linear and the same at
all sites, so averaging one kind of point is averaging the other; the intercept is not penalised, so
the optimum is the same too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsm.learning.exact_objective import Classes, Matrix, Rows, SiteLoss


@dataclass(frozen=True)
class Share:
    """A site's share F_k of the objective, and what a strategy adds to it.

    Points are matrices of shape (outputs, features + 1), the intercept last and unpenalised; of
    centred rows where there is a ``centre``.

    Attributes
    ----------
    x : ndarray of float64 or sparse matrix, shape (n, features)
        Prepared rows, nothing missing; sparse ones stay sparse.
    y : ndarray of int, shape (n,)
        Class indices; classes may be missing.
    c : float
        Inverse strength of the penalty on the pooled rows; infinite for none.
    rows : int
        Training rows of all sites.
    weights : ndarray, shape (classes,), or None
        Class weights.
    proximal_mu : float
        Weight of FedProx's term ``mu/2 |w - w_global|^2``.
    correction : ndarray, or None
        Added to every gradient: SCAFFOLD's, by the uncentred point.
    centre : ndarray, shape (features,), or None
        What to take from every row; sparse ones stay as they are.
    """

    x: Rows
    y: Classes
    c: float
    rows: int
    weights: Matrix | None = None
    proximal_mu: float = 0.0
    correction: Matrix | None = None
    centre: Matrix | None = None

    def centred(self, w: Matrix) -> Matrix:
        """The point that scores centred rows as ``w`` scores the rows as they are."""
        return w if self.centre is None else _shifted(w, self.centre)

    def uncentred(self, w: Matrix) -> Matrix:
        """What :meth:`centred` was given."""
        return w if self.centre is None else _shifted(w, -self.centre)

    def at(self, w: Matrix, start: Matrix) -> Point:
        """F_k and what is added to it at a point; ``start`` is w_global."""
        weights = np.ones(max(len(w), 2)) if self.weights is None else self.weights
        shrink = np.full(w.shape, 1.0 / (self.c * self.rows))
        shrink[:, -1] = 0.0
        linear = np.zeros_like(w) if self.correction is None else self.correction
        moved, linear = w - start, _slope(linear, self.centre)
        quadratic = shrink * w**2 + self.proximal_mu * moved**2
        return Point(
            SiteLoss(self.uncentred(w), self.x, self.y, weights),
            len(self.y),
            float((quadratic / 2 + linear * w).sum()),
            shrink * w + self.proximal_mu * moved + linear,
            (shrink + self.proximal_mu).ravel(),
            self.centre,
        )


@dataclass(frozen=True)
class Point:
    """A :class:`Share` at a point: the rows' summed loss, and what is added to its mean."""

    loss: SiteLoss
    rows: int
    added: float
    slope: Matrix
    curvature: Matrix
    centre: Matrix | None

    @property
    def value(self) -> float:
        return self.loss.value / self.rows + self.added

    def gradient(self) -> Matrix:
        """Shape (outputs, features + 1)."""
        return _slope(self.loss.gradient(), self.centre) / self.rows + self.slope

    def hessian(self) -> Matrix:
        """Second derivatives by the flattened point."""
        whole = self.loss.square_hessian() / self.rows
        if self.centre is not None:
            by_output = whole.reshape(2 * self.slope.shape)
            by_output[..., :-1] -= by_output[..., -1:] * self.centre
            by_output[:, :-1] -= by_output[:, -1:] * self.centre[:, np.newaxis, np.newaxis]
        return whole + np.diag(self.curvature)


def _shifted(w: Matrix, centre: Matrix) -> Matrix:
    # Not as a product of matrices: BLAS would wake its threads for each of many short sums.
    return np.column_stack([w[:, :-1], w[:, -1] + (w[:, :-1] * centre).sum(axis=1)])


def _slope(gradient: Matrix, centre: Matrix | None) -> Matrix:
    """A gradient by the uncentred point as one by the centred: the chain rule."""
    if centre is None:
        return gradient
    return np.column_stack([gradient[:, :-1] - gradient[:, -1:] * centre, gradient[:, -1]])

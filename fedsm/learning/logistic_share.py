"""What a site minimises in logistic regression: its share of the federation's objective.

See :mod:`fedsm.learning.logistic`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsm.learning.exact_objective import Classes, Matrix, Rows, SiteLoss


@dataclass(frozen=True)
class Share:
    """A site's share F_k of the objective, and what a strategy adds to it.

    Points are matrices of shape (outputs, features + 1), the intercept last and unpenalised.

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
        Added to every gradient: SCAFFOLD's.
    """

    x: Rows
    y: Classes
    c: float
    rows: int
    weights: Matrix | None = None
    proximal_mu: float = 0.0
    correction: Matrix | None = None

    def at(self, w: Matrix, start: Matrix) -> Point:
        """F_k and what is added to it at a point; ``start`` is w_global."""
        weights = np.ones(max(len(w), 2)) if self.weights is None else self.weights
        shrink = np.full(w.shape, 1.0 / (self.c * self.rows))
        shrink[:, -1] = 0.0
        moved, linear = w - start, 0.0 if self.correction is None else self.correction
        quadratic = shrink * w**2 + self.proximal_mu * moved**2
        return Point(
            SiteLoss(w, self.x, self.y, weights),
            len(self.y),
            float((quadratic / 2 + linear * w).sum()),
            shrink * w + self.proximal_mu * moved + linear,
            (shrink + self.proximal_mu).ravel(),
        )


@dataclass(frozen=True)
class Point:
    """A :class:`Share` at a point: the rows' summed loss, and what is added to its mean."""

    loss: SiteLoss
    rows: int
    added: float
    slope: Matrix
    curvature: Matrix

    @property
    def value(self) -> float:
        return self.loss.value / self.rows + self.added

    def gradient(self) -> Matrix:
        """Shape (outputs, features + 1)."""
        return self.loss.gradient() / self.rows + self.slope

    def hessian(self) -> Matrix:
        """Second derivatives by the flattened point."""
        return self.loss.square_hessian() / self.rows + np.diag(self.curvature)

"""An approximate inverse of the federation's Hessian from what the sites send once.

The Hessian of logistic regression has for each output, with ``m`` the weighted mean of the rows,

    sum_i d_i (x_i, 1)(x_i, 1)'  =  T' [ G   0 ] T,     T = [ I   0 ]
                                       [ 0   D ]            [ m'  1 ]

``G`` being the sum about the mean and ``D = sum_i d_i``. ``T`` is kept whole, so the intercept and
all that columns share with it are solved exactly. Of ``G`` two parts are kept:

- the blocks of single variables over their windows, which hold what neighbouring hours share;
- in the basis of the blocks' eigenvectors, everything between those of the largest eigenvalues,
  which holds what variables share where the rows say most.

The penalty is added to both. Sums about sites' own means become sums about the common mean as in
Chan, Golub and LeVeque 1983.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsm.learning.exact_objective import Coupling, Curvature, Directions, Matrix

FLOOR = 1e-8
"""Least eigenvalue, as a share of the largest: without a penalty a constant column has none."""


class Preconditioner:
    """Solves with the approximation.

    Parameters
    ----------
    sites : sequence of Curvature
        One site's each.
    penalty : float
        Added to the diagonal of the coefficients' part.
    """

    def __init__(self, sites: Sequence[Curvature], penalty: float) -> None:
        count, variables = sites[0].blocks.shape[1:]
        windows = int(np.sqrt(2 * count))
        rows, columns = np.tril_indices(windows)
        self._penalty = penalty
        self._total, self._mean = _pooled(sites)
        outputs = len(self._total)
        packed = np.zeros((outputs, count, variables))
        for site in sites:
            off = (site.mean - self._mean).reshape(outputs, windows, variables)
            packed += site.blocks
            packed += site.total[:, np.newaxis, np.newaxis] * off[:, rows] * off[:, columns]
        whole = np.empty((outputs, variables, windows, windows))
        whole[:, :, rows, columns] = whole[:, :, columns, rows] = packed.transpose(0, 2, 1)
        values, self._vectors = np.linalg.eigh(whole)
        self._values = _penalised(values, penalty)
        self._coupled: list[tuple[Matrix, Matrix]] = []
        self._leading = np.zeros((outputs, 0), dtype=np.intp)

    def directions(self, most: int) -> Directions:
        """Eigenvectors of the largest eigenvalues, by output; at most so many."""
        outputs, variables, windows = self._values.shape
        count = min(most, variables * windows)
        order = np.argsort(-self._values.reshape(outputs, -1), axis=1, kind="stable")
        self._leading = order[:, :count]
        variable, place = np.divmod(self._leading, windows)
        output = np.arange(outputs)[:, np.newaxis]
        vectors = self._vectors[output, variable, :, place].astype(np.float32)
        return Directions(variable.astype(np.int64), vectors)

    def couple(self, sites: Sequence[Coupling]) -> None:
        """Take in how the directions given last go together, one site's each."""
        total, mean = _pooled(sites)
        count = mean.shape[1]
        rows, columns = np.tril_indices(count)
        self._coupled = []
        for k in range(len(total)):
            whole = np.zeros((count, count))
            for site in sites:
                off = site.mean[k] - mean[k]
                whole[rows, columns] += site.gram[k] + site.total[k] * off[rows] * off[columns]
            values, vectors = np.linalg.eigh(whole, UPLO="L")
            self._coupled.append((_penalised(values, self._penalty), vectors))

    def solve(self, gradient: Matrix) -> Matrix:
        """Approximate ``H^-1 g``; both of shape (outputs, features + 1), the intercept last."""
        outputs, variables, windows = self._values.shape
        slope = gradient[:, -1:]
        centred = gradient[:, :-1] - self._mean * slope
        by_block = centred.reshape(outputs, windows, variables).transpose(0, 2, 1)[..., np.newaxis]
        turned = (self._vectors.transpose(0, 1, 3, 2) @ by_block)[..., 0]
        scaled = turned / self._values
        for k, (values, vectors) in enumerate(self._coupled):
            along = turned[k].ravel()[self._leading[k]]
            scaled[k].flat[self._leading[k]] = vectors @ ((vectors.T @ along) / values)
        solved = (self._vectors @ scaled[..., np.newaxis])[..., 0]
        coef = solved.transpose(0, 2, 1).reshape(outputs, -1)
        shift = (self._mean * coef).sum(axis=1, keepdims=True)
        intercept = slope / self._total[:, np.newaxis] - shift
        if outputs > 1:  # a constant for all classes changes nothing
            intercept = intercept - intercept.mean()
        return np.column_stack([coef, intercept])


def _pooled(sites: Sequence[Curvature] | Sequence[Coupling]) -> tuple[Matrix, Matrix]:
    """Sum of the weights and common mean, by output."""
    total = np.sum([s.total for s in sites], axis=0)
    weighted = np.sum([s.total[:, np.newaxis] * s.mean for s in sites], axis=0)
    total = np.maximum(total, np.finfo(np.float64).tiny)
    return total, weighted / total[:, np.newaxis]


def _penalised(values: Matrix, penalty: float) -> Matrix:
    """Eigenvalues with the penalty; rounding to single precision may leave one below zero."""
    least = FLOOR * values.max(initial=np.finfo(np.float64).tiny) if penalty == 0 else 0.0
    return np.maximum(values, least) + penalty

"""What one site computes for exact logistic regression: sums over its rows, and nothing else.

    L(w) = sum_i s_i [ logsumexp_c z_ic - z_i,y_i ],   z_ic = coef_c . x_i + intercept_c

Two classes have one output: z_i0 = 0. ``s_i`` is the weight of the row's class. There is no mean
and no penalty in it, so the sites' values, gradients and Hessians add up to the federation's.

Parameters stand in one matrix of shape (outputs, features + 1), the intercept last. Rows are a
NumPy array or a ``scipy.sparse`` matrix, which stays sparse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Matrix = NDArray[np.float64]
Classes = NDArray[np.intp]
Rows = Any
"""ndarray of float64 or sparse matrix, shape (rows, features), nothing missing."""


CHUNK = 2048
"""Rows at a time, where sparse ones become dense."""


@dataclass(frozen=True)
class Curvature:
    """Hessian blocks of single variables, about the weighted mean.

    A column of variable ``v`` in window ``h`` has index ``h * variables + v``. With the weights
    ``d_i = s_i p_i (1 - p_i)`` of one output and the mean ``m = sum_i d_i x_i / sum_i d_i``, the
    block of a variable is ``sum_i d_i (x_i - m)(x_i - m)'`` over its columns.

    Attributes
    ----------
    total : ndarray of float64, shape (outputs,)
        ``sum_i d_i``.
    mean : ndarray of float64, shape (outputs, features)
    blocks : ndarray of float32, shape (outputs, windows * (windows + 1) / 2, variables)
        Lower triangles, row by row: sums about the mean bear single precision, raw ones do not.
    """

    total: Matrix
    mean: Matrix
    blocks: NDArray[np.float32]


@dataclass(frozen=True)
class Directions:
    """Directions in the coefficients' space, each within one variable.

    Attributes
    ----------
    variables : ndarray of int64, shape (outputs, count)
    vectors : ndarray of float32, shape (outputs, count, windows)
        Orthonormal among those of a variable.
    """

    variables: NDArray[np.int64]
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Coupling:
    """The Hessian along directions, about the weighted mean as in :class:`Curvature`.

    Attributes
    ----------
    total : ndarray of float64, shape (outputs,)
    mean : ndarray of float64, shape (outputs, count)
        Of the rows' components along the directions.
    gram : ndarray of float32, shape (outputs, count * (count + 1) / 2)
        Lower triangles, row by row.
    """

    total: Matrix
    mean: Matrix
    gram: NDArray[np.float32]


class SiteLoss:
    """The loss of one site's rows at one point.

    Parameters
    ----------
    w : ndarray, shape (outputs, features + 1)
    x : ndarray or sparse matrix, shape (rows, features)
    y : ndarray of int, shape (rows,)
        Class indices; classes may be missing.
    class_weights : ndarray, shape (classes,)
    """

    def __init__(self, w: Matrix, x: Rows, y: Classes, class_weights: Matrix) -> None:
        self._x = x.tocsr() if sparse.issparse(x) else x
        self._y = y
        self._weights = class_weights[y]
        z = scores(w, x)
        log_sum = np.logaddexp.reduce(z, axis=1, keepdims=True)
        # The first class that has parameters: the second, where there are two.
        self._first = z.shape[1] - len(w)
        self.probabilities: Matrix = np.exp(z - log_sum)
        """Shape (rows, classes)."""
        chosen = z[np.arange(len(y)), y]
        self.value = float(self._weights @ (log_sum[:, 0] - chosen))
        """L(w), in nats."""

    def gradient(self) -> Matrix:
        """dL/dw, shape (outputs, features + 1)."""
        residual = self.probabilities.copy()
        residual[np.arange(len(self._y)), self._y] -= 1.0
        residual = (residual * self._weights[:, np.newaxis])[:, self._first :]
        return np.column_stack([(self._x.T @ residual).T, residual.sum(axis=0)])

    def hessian(self) -> Matrix:
        """Second derivatives by the flattened ``w``: the lower triangle, row by row."""
        whole = self.square_hessian()
        return whole[np.tril_indices(len(whole))]

    def square_hessian(self) -> Matrix:
        """Second derivatives by the flattened ``w``, as a matrix."""
        p = self.probabilities
        outputs, width = p.shape[1] - self._first, self._x.shape[1] + 1
        whole = np.empty((outputs, width, outputs, width))
        for k in range(outputs):
            for j in range(k + 1):
                d = self._variance(k) if j == k else -p[:, k + self._first] * p[:, j + self._first]
                block = self._bordered_gram(self._weights * d)
                whole[k, :, j], whole[j, :, k] = block, block
        size = outputs * width
        return whole.reshape(size, size)

    def curvature(self, windows: int) -> Curvature:
        """Blocks of single variables; ``windows`` divides the number of features."""
        outputs, features = self.probabilities.shape[1] - self._first, self._x.shape[1]
        total, mean = np.zeros(outputs), np.zeros((outputs, features))
        rows, columns = np.tril_indices(windows)
        blocks = np.empty((outputs, len(rows), features // windows), dtype=np.float32)
        for k in range(outputs):
            d = self._weights * self._variance(k)
            total[k] = d.sum()
            mean[k] = (self._x.T @ d) / max(total[k], np.finfo(np.float64).tiny)
            slabs = _slabs(_scale_rows(np.sqrt(d), self._x), windows)
            means = mean[k].reshape(windows, -1)
            for i, (g, h) in enumerate(zip(rows, columns, strict=True)):
                raw = _column_products(slabs[g], slabs[h])
                blocks[k, i] = raw - total[k] * means[g] * means[h]
        return Curvature(total, mean, blocks)

    def coupling(self, directions: Directions) -> Coupling:
        """How directions go together, of one variable or of two."""
        outputs, count, windows = directions.vectors.shape
        total, mean = np.zeros(outputs), np.zeros((outputs, count))
        gram = np.empty((outputs, count * (count + 1) // 2), dtype=np.float32)
        features = self._x.shape[1]
        first = np.arange(windows)[:, np.newaxis] * (features // windows)
        columns = np.tile(np.arange(count), windows)
        for k in range(outputs):
            d = self._weights * self._variance(k)
            rows = (first + directions.variables[k]).ravel()
            values = directions.vectors[k].T.ravel().astype(np.float64)
            basis = sparse.csr_array((values, (rows, columns)), shape=(features, count))
            total[k] = d.sum()
            mean[k] = ((self._x.T @ d) @ basis) / max(total[k], np.finfo(np.float64).tiny)
            whole = np.zeros((count, count))
            for start in range(0, len(d), CHUNK):
                part = slice(start, start + CHUNK)
                along = self._x[part] @ basis
                along = (along.toarray() if sparse.issparse(along) else along) - mean[k]
                whole += along.T @ (d[part, np.newaxis] * along)
            gram[k] = whole[np.tril_indices(count)]
        return Coupling(total, mean, gram)

    def _variance(self, output: int) -> Matrix:
        p = self.probabilities
        # The complement as a sum: 1 - p loses all digits where p is near 1.
        others = np.delete(p, output + self._first, axis=1).sum(axis=1)
        product: Matrix = p[:, output + self._first] * others
        return product

    def _bordered_gram(self, d: Matrix) -> Matrix:
        """``sum_i d_i (x_i, 1)(x_i, 1)'``."""
        gram = self._x.T @ _scale_rows(d, self._x)
        border = self._x.T @ d
        return np.block(
            [
                [gram.toarray() if sparse.issparse(gram) else gram, border[:, np.newaxis]],
                [border[np.newaxis], np.array([[d.sum()]])],
            ]
        )


def scores(w: Matrix, x: Rows) -> Matrix:
    """``z`` of all classes, shape (rows, classes)."""
    z: Matrix = x @ w[:, :-1].T + w[:, -1]
    return np.column_stack([np.zeros(len(z)), z]) if len(w) == 1 else z


def least_and_most(w: Matrix, x: Rows, y: Classes) -> tuple[float, float]:
    """How far rows stand, by ``w``, on their own class's side of each other class.

    Returns
    -------
    tuple of float, float
        Minimum and maximum over rows and other classes of ``z_iy - z_ic``. Where the least is
        positive, ``w`` separates the rows.
    """
    z = scores(w, x)
    at = np.arange(len(y)), y
    own, highest, lowest = z[at], z.copy(), z.copy()
    highest[at], lowest[at] = -np.inf, np.inf
    return float((own - highest.max(axis=1)).min()), float((own - lowest.min(axis=1)).max())


def _scale_rows(d: Matrix, x: Rows) -> Rows:
    return sparse.diags_array(d) @ x if sparse.issparse(x) else d[:, np.newaxis] * x


def _slabs(x: Rows, windows: int) -> list[Rows]:
    """The columns of each window."""
    variables = x.shape[1] // windows
    by_column = x.tocsc() if sparse.issparse(x) else x
    parts = [by_column[:, h * variables : (h + 1) * variables] for h in range(windows)]
    return [part.tocsr() for part in parts] if sparse.issparse(x) else parts


def _column_products(a: Rows, b: Rows) -> Matrix:
    """Inner product of each column of ``a`` with the same column of ``b``."""
    if sparse.issparse(a):
        return np.asarray(a.multiply(b).sum(axis=0), dtype=np.float64).ravel()
    product: Matrix = np.einsum("ij,ij->j", a, b)
    return product

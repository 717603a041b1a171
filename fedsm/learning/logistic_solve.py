"""Optima of logistic regression that a site computes alone: its own, and one without some rows."""

from __future__ import annotations

import numpy as np
from scipy import optimize
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.linear_model import LogisticRegression

from fedsm.learning.exact_descent import Descent, Evaluation, Newton
from fedsm.learning.exact_objective import Matrix
from fedsm.learning.logistic import from_matrix, to_matrix
from fedsm.learning.logistic_share import Share

NEWTON_LIMIT = 500
"""Coefficients up to which :func:`solve` takes Newton's steps."""


def solve(model: LogisticRegression, share: Share) -> None:
    """Move a model to the share's optimum, by Newton's method or, with many coefficients, L-BFGS.

    Without a penalty separated rows have none: the parameters then end large.
    """
    start = share.centred(to_matrix(model))
    w = _newton(share, start) if start.size <= NEWTON_LIMIT else _lbfgs(share, start)
    from_matrix(model, share.uncentred(w))


def leave_out(model: LogisticRegression, share: Share, out: Share) -> None:
    """Move a model of all sites to about where it would be without the rows of ``out``.

    One Newton step on the federation's objective less what these rows add to it: an infinitesimal
    jackknife (Jaeckel 1972; Giordano et al. 2019). The federation's curvature is not known here; it
    is taken to be that of the site's ``share``, as if all rows were like the site's. With many
    coefficients the equations are solved by conjugate gradients.
    """
    start = share.centred(to_matrix(model))
    rows, fewer = share.rows, len(out.y)
    target = fewer * out.at(start, start).gradient().ravel()
    if start.size <= NEWTON_LIMIT:
        whole, part = share.at(start, start).hessian(), out.at(start, start).hessian()
        moved = np.linalg.lstsq(rows * whole - fewer * part, target, rcond=None)[0]
    else:

        def slope(flat: Matrix) -> Matrix:
            w = flat.reshape(start.shape)
            left = rows * share.at(w, start).gradient() - fewer * out.at(w, start).gradient()
            return np.asarray(left.ravel())

        def curvature(v: Matrix) -> Matrix:
            step = 1e-4 / max(float(np.linalg.norm(v)), 1e-12) * v
            return (slope(start.ravel() + step) - slope(start.ravel() - step)) * (
                float(np.linalg.norm(v)) / 2e-4
            )

        operator = LinearOperator((start.size, start.size), matvec=curvature, dtype=np.float64)
        moved, _ = cg(operator, target, rtol=1e-2, maxiter=20)
    w = start + moved.reshape(start.shape)
    from_matrix(model, share.uncentred(w))


def _newton(share: Share, start: Matrix) -> Matrix:
    descent = Descent(Newton(singular=not share.proximal_mu))
    point = start.ravel()
    for _ in range(100):
        at = share.at(point.reshape(start.shape), start)
        found = Evaluation(point, at.value, at.gradient().ravel(), at.hessian())
        point = descent.tell([found])
        if descent.accepted and descent.decrement <= 1e-14 * max(at.value, 1e-3):
            break
    return point.reshape(start.shape)


def _lbfgs(share: Share, start: Matrix) -> Matrix:
    def objective(flat: Matrix) -> tuple[float, Matrix]:
        at = share.at(flat.reshape(start.shape), start)
        return at.value, at.gradient().ravel()

    options = {"maxiter": 1000, "maxcor": 30, "ftol": 1e-13, "gtol": 1e-8}
    found = optimize.minimize(
        objective, start.ravel(), jac=True, method="L-BFGS-B", options=options
    )
    best: Matrix = found.x.reshape(start.shape)
    return best

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from fedsm.learning.exact_objective import Directions, SiteLoss, least_and_most
from fedsm.learning.exact_precondition import Preconditioner

WEIGHTS = {2: np.array([1.0, 3.0]), 3: np.array([1.0, 0.5, 2.0])}


def rows(classes: int, n: int = 60, features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(classes)
    x = random.normal(size=(n, features)) * (random.random((n, features)) < 0.5) + 0.2
    return x, random.integers(classes, size=n)


def point(classes: int, features: int = 6) -> np.ndarray:
    outputs = 1 if classes == 2 else classes
    return np.random.default_rng(1).normal(size=(outputs, features + 1))


def loss(classes: int, w: np.ndarray | None = None, *, thin: bool = False) -> SiteLoss:
    x, y = rows(classes)
    given = point(classes) if w is None else w
    return SiteLoss(given, sparse.csr_array(x) if thin else x, y, WEIGHTS[classes])


def whole(packed: np.ndarray) -> np.ndarray:
    size = int(np.sqrt(2 * len(packed)))
    out = np.zeros((size, size))
    out[np.tril_indices(size)] = packed
    return out + np.tril(out, -1).T


def derivative(of: object, at: np.ndarray) -> np.ndarray:
    """Central differences by each entry of ``at``."""
    out = []
    for i in range(at.size):
        step = np.zeros(at.size)
        step[i] = 1e-6
        step = step.reshape(at.shape)
        out.append((of(at + step) - of(at - step)) / 2e-6)  # type: ignore[operator]
    return np.array(out)


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_gradient_and_hessian_are_the_derivatives(classes: int, thin: bool) -> None:
    w = point(classes)
    at = loss(classes, thin=thin)
    slope = derivative(lambda v: loss(classes, v).value, w)
    np.testing.assert_allclose(at.gradient().ravel(), slope, atol=1e-5)
    bend = derivative(lambda v: loss(classes, v).gradient().ravel(), w)
    np.testing.assert_allclose(whole(at.hessian()), bend, atol=1e-5)


def test_far_from_the_boundary_nothing_overflows_and_the_hessian_keeps_its_digits() -> None:
    x, y = np.array([[1.0], [1.0]]), np.array([1, 0])
    at = SiteLoss(np.array([[800.0, 0.0]]), x, y, np.ones(2))
    assert at.value == pytest.approx(800.0)
    near = SiteLoss(np.array([[50.0, 0.0]]), x[:1], y[:1], np.ones(2))
    assert whole(near.hessian())[0, 0] == pytest.approx(np.exp(-50.0), rel=1e-9)


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("windows", [1, 2, 3])
def test_curvature_holds_the_blocks_of_the_hessian(windows: int, thin: bool) -> None:
    at = loss(3, thin=thin)
    found = at.curvature(windows)
    variables = 6 // windows
    for k in range(3):
        hessian = whole(at.hessian())[7 * k : 7 * k + 7, 7 * k : 7 * k + 7]
        total = hessian[6, 6]
        assert found.total[k] == pytest.approx(total)
        np.testing.assert_allclose(found.mean[k], hessian[6, :6] / total)
        centred = hessian[:6, :6] - total * np.outer(found.mean[k], found.mean[k])
        for v in range(variables):
            own = np.arange(windows) * variables + v
            block = whole(found.blocks[k, :, v])
            np.testing.assert_allclose(block, centred[np.ix_(own, own)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("thin", [False, True])
def test_coupling_is_the_hessian_along_directions(thin: bool) -> None:
    at = loss(2, thin=thin)
    vectors = np.array([[[0.6, 0.8], [0.0, 1.0], [1.0, 0.0]]], dtype=np.float32)
    found = at.coupling(Directions(np.array([[0, 2, 2]]), vectors))
    basis = np.zeros((6, 3))
    basis[[0, 3], 0], basis[5, 1], basis[2, 2] = (0.6, 0.8), 1.0, 1.0
    hessian = whole(at.hessian())
    mean = hessian[6, :6] / hessian[6, 6]
    centred = hessian[:6, :6] - hessian[6, 6] * np.outer(mean, mean)
    np.testing.assert_allclose(whole(found.gram[0]), basis.T @ centred @ basis, rtol=1e-5)
    np.testing.assert_allclose(found.mean[0], mean @ basis, rtol=1e-5)


@pytest.mark.parametrize("windows", [1, 3])
def test_with_every_direction_the_preconditioner_is_the_inverse_over_unlike_sites(
    windows: int,
) -> None:
    x, y = rows(2, n=90)
    x[:30] += 5.0
    w, strength = point(2), 0.3
    parts = [(x[:30], y[:30]), (x[30:], y[30:])]
    sites = [SiteLoss(w, *part, WEIGHTS[2]) for part in parts]
    made = Preconditioner([s.curvature(windows) for s in sites], strength)
    directions = made.directions(100)
    assert directions.vectors.shape == (1, 6, windows)
    made.couple([s.coupling(directions) for s in sites])
    penalty = np.diag([strength] * 6 + [0.0])
    hessian = whole(SiteLoss(w, x, y, WEIGHTS[2]).hessian()) + penalty
    gradient = np.arange(1.0, 8.0)
    solved = made.solve(gradient[np.newaxis]).ravel()
    np.testing.assert_allclose(solved, np.linalg.solve(hessian, gradient), rtol=1e-3, atol=1e-4)


def test_a_preconditioner_without_penalty_bears_a_constant_column() -> None:
    x, y = rows(2)
    x[:, 2] = 0.0
    found = SiteLoss(point(2), x, y, WEIGHTS[2]).curvature(1)
    assert np.isfinite(Preconditioner([found], 0.0).solve(np.ones((1, 7)))).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_extremes_of_the_margins(classes: int) -> None:
    x, y = rows(classes)
    w = point(classes)
    z = x @ w[:, :-1].T + w[:, -1]
    if classes == 2:
        z = np.column_stack([np.zeros(len(z)), z])
    margins = [z[i, y[i]] - z[i, c] for i in range(len(y)) for c in range(classes) if c != y[i]]
    assert least_and_most(w, x, y) == pytest.approx((min(margins), max(margins)))

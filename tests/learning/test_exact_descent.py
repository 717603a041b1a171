from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fedsm.learning.exact_descent import Descent, Evaluation, LimitedMemory, Newton

RANDOM = np.random.default_rng(0)
ROOT = RANDOM.normal(size=(12, 12))
BOWL = ROOT @ ROOT.T + np.eye(12)
LEAST = RANDOM.normal(size=12)


def bowl(w: np.ndarray, length: float = 1.0) -> Evaluation:
    off = w - LEAST
    return Evaluation(w, float(off @ BOWL @ off) / 2, BOWL @ off, BOWL, length)


def slope(w: np.ndarray, length: float = 1.0) -> Evaluation:
    """``sqrt(1 + w^2)``: from beyond 1 a whole Newton step goes further away."""
    root = np.sqrt(1 + w**2)
    return Evaluation(w, float(root[0]), w / root, (1 / root**3)[:, np.newaxis], length)


def valley(w: np.ndarray, length: float = 1.0) -> Evaluation:
    """``exp(-w) + w / 1000``: every whole Newton step goes about 1."""
    tail = np.exp(-w)
    return Evaluation(w, float(tail[0] + w[0] / 1000), 1e-3 - tail, tail[:, np.newaxis], length)


def rounds(
    of: Callable[[np.ndarray, float], Evaluation],
    start: np.ndarray,
    direction: Newton | LimitedMemory,
    lengths: tuple[float, ...] = (1.0,),
) -> int:
    descent, point = Descent(direction), start
    for number in range(1, 100):
        base = descent.base
        tried = lengths if base is not None else (1.0,)
        found = [of(point + (t - 1) * (descent.step if base else 0.0), t) for t in tried]
        point = descent.tell(found)
        if descent.error <= 1e-9:
            return number
    raise AssertionError


def test_newton_needs_two_rounds_for_a_bowl() -> None:
    descent = Descent(Newton())
    np.testing.assert_allclose(descent.tell([bowl(np.zeros(12))]), LEAST)
    assert descent.decrement / 2 == pytest.approx(bowl(np.zeros(12)).value)


def test_a_step_too_long_is_shortened_until_the_function_decreases() -> None:
    descent = Descent(Newton())
    asked = descent.tell([slope(np.array([3.0]))])
    assert asked[0] == pytest.approx(-27.0)
    asked = descent.tell([slope(asked)])
    assert not descent.accepted
    assert descent.base is not None
    assert descent.base.point[0] == 3.0
    assert -27.0 < asked[0] < 3.0
    assert rounds(slope, np.array([3.0]), Newton()) < 20


def test_other_lengths_save_rounds() -> None:
    start = np.zeros(1)
    assert rounds(valley, start, Newton(), (1.0, 2.0, 0.4)) < rounds(valley, start, Newton()) - 2


def test_convergence_is_not_foretold_where_it_is_linear() -> None:
    """Steps of length 1 each promise nothing of what is to come."""
    descent, point = Descent(Newton()), np.zeros(1)
    for _ in range(5):
        point = descent.tell([valley(point)])
        assert descent.error > 0.5


def test_limited_memory_minimises_with_and_without_a_preconditioner() -> None:
    def gap(precondition: Callable[[np.ndarray], np.ndarray] | None, steps: int) -> float:
        direction = LimitedMemory(20)
        if precondition is not None:
            direction.precondition = precondition
        descent, point = Descent(direction), np.zeros(12)
        for _ in range(steps):
            point = descent.tell([bowl(point)])
        assert descent.base is not None
        return descent.base.value

    assert gap(None, 60) < 1e-9
    assert gap(lambda v: np.linalg.solve(BOWL, v), 2) < 1e-9


def test_a_flat_direction_needs_its_gauge_and_a_singular_hessian_the_shortest_step() -> None:
    flat = np.ones((1, 2)) / np.sqrt(2)
    hessian = np.array([[1.0, -1.0], [-1.0, 1.0]])
    at = Evaluation(np.zeros(2), 1.0, np.array([1.0, -1.0]), hessian)
    for newton in (Newton(flat), Newton(singular=True)):
        np.testing.assert_allclose(newton.step(at), [-0.5, 0.5], atol=1e-12)
    with pytest.raises(np.linalg.LinAlgError):
        Newton().step(Evaluation(np.zeros(2), 1.0, np.ones(2), -np.eye(2)))


def test_restart_forgets_the_function() -> None:
    descent = Descent(LimitedMemory(5))
    asked = descent.tell([bowl(np.zeros(12))])
    descent.restart()
    higher = Evaluation(asked, 1e9, BOWL @ (asked - LEAST))
    descent.tell([higher])
    assert descent.accepted

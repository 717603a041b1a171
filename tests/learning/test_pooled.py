"""The pooled report where a site's counts rank nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedsm.learning.pooled import pooled
from fedsm.learning.reported import Reported

LABELS = ("0", "1")


def site(positives: int, negatives: int, auc: float | None) -> Reported:
    p, q = np.zeros((1, 200), dtype=np.int64), np.zeros((1, 200), dtype=np.int64)
    p[0, 120], q[0, 80] = positives, negatives
    entry: dict[str, Any] = {"n": positives + negatives, "classes": [negatives, positives]}
    entry |= dict.fromkeys(("loss", "accuracy", "brier"), 0.5)
    entry |= {"auc": {"value": auc}, "average_precision": {"value": auc}}
    return Reported(entry, (p, q))


@pytest.mark.parametrize("name", ["auc", "average_precision"])
def test_a_site_of_one_class_takes_nothing_off(name: str) -> None:
    found = pooled({"a": site(10, 20, 1.0), "odd": site(0, 10, 0.5)}, LABELS)
    assert found[name]["value"] == 1.0
    assert "auc" not in found["without"]


def test_one_class_everywhere_is_undefined() -> None:
    found = pooled({"odd": site(0, 10, 0.5)}, LABELS)
    assert found["auc"]["value"] is found["average_precision"]["value"] is None
    assert found["without"] == {"auc": ["odd"]}

"""eICU with real jobs: sparse rows of 22,100 inputs, classes weighted alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsm import Federation, local
from fedsm.learning.sparse_tables import read_npz
from fedsm.scaffold import write
from tests.end_to_end.conftest import FAST


def test_made_up_tables_are_trained_on(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    write(tmp_path, "eicu", None, made_up=300)
    federation = Federation.load(tmp_path, FAST)
    try:
        run = federation.train()
        rounds = run.history()
        assert len(rounds) == 3
        losses = [r["server"]["loss"] for r in rounds]
        assert losses[-1] < losses[0]
        moved = [np.load(path) for path in sorted((run.journal.parent / "checkpoints").iterdir())]
        assert 0 < np.abs(moved[-1]["coef"] - moved[0]["coef"]).max() < 1
        test = read_npz(tmp_path / "data" / "test.npz")
        assert test.features.shape[1] == 22_100
        predicted = run.model().predict_proba(test.features)[:, 1]
        assert ((predicted > 0) & (predicted < 1)).all()
        assert predicted.std() > 0
    finally:
        local.down(tmp_path)

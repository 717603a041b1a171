"""Does joining help this site? Its own model against the federation's, and the fine-tuned one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._studies_splits import CMS, Sites, Split
from benchmarks._studies_variants import alone, exact
from fedsm.learning.metrics import area_under_roc
from fedsm.learning.models import Local
from fedsm.learning.personal import personalize
from fedsm.learning.tables import Table


@dataclass(frozen=True)
class Gain:
    """AUC of a site's own model and of another on the same test rows."""

    sites: str
    site: str
    variant: str
    alone: float
    other: float


def gains_of(split: Split) -> list[Gain]:
    """A hospital's models are judged on its own test rows, those of dealt-out rows on all."""
    return [gain for name in split.sites for gain in _gains(split, name)]


def _gains(split: Split, name: str) -> Iterator[Gain]:
    sites: Sites = split.sites[name]
    run = exact(split, sites)
    assert run.summary is not None
    weights = {"class-weights": split.class_weights}
    for site, tables in sites.items():
        test: Table = split.test if split.study == CMS else tables.validation
        if len(np.unique(test.labels)) < 2:
            continue
        own = area_under_roc(test.labels == 1, alone(tables, test, split.class_weights))
        local = Local(run.summary, weights)
        x, y = run.summary.transform(tables.train), run.summary.encode(tables.train.labels)
        tuned = personalize(run.model, run.arrays, x, y, local)
        for variant, arrays in (("exact", run.arrays), ("personalized", tuned)):
            probabilities: Any = run.model.predict(
                arrays, run.summary.transform(test), run.summary, weights
            )
            auc = area_under_roc(test.labels == 1, probabilities[:, 1])
            yield Gain(name, site, variant, own, auc)

"""Does joining help this site? Its own model against the federation's, and the fine-tuned one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks._studies_splits import CMS, Sites, Split
from benchmarks._studies_variants import exact
from fedsm.learning.metrics import area_under_roc
from fedsm.learning.models import Adapter, Local
from fedsm.learning.personal import local_only, personalize
from fedsm.learning.tables import Table


@dataclass(frozen=True)
class Gain:
    """AUC of a site's own model and of another on the same test rows; NaN where undefined."""

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
        positive = test.labels == 1
        local = Local(run.summary, weights, site=site)
        own = _auc(positive, alone(tables.train, test, run.model, local))
        x, y = run.summary.transform(tables.train), run.summary.encode(tables.train.labels)
        tuned = personalize(run.model, run.arrays, x, y, local)
        for variant, arrays in (("exact", run.arrays), ("personalized", tuned)):
            probabilities = run.model.predict(
                arrays, run.summary.transform(test), run.summary, weights
            )
            yield Gain(name, site, variant, own, _auc(positive, probabilities[:, 1]))


def _auc(positive: NDArray[np.bool_], scores: NDArray[np.float64] | None) -> float:
    if scores is None or len(np.unique(positive)) < 2:
        return math.nan
    return area_under_roc(positive, scores)


def alone(train: Table, test: Table, model: Adapter, local: Local) -> NDArray[np.float64] | None:
    """What the product's model of a site alone says of test rows; of one class there is none."""
    if len(np.unique(train.labels)) < 2:
        return None
    arrays, own = local_only(model, train, local, rounds=1)
    return model.predict(arrays, own.transform(test), own, local.run_config)[:, 1]

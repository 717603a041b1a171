"""Names of the metrics that fedsm's own jobs report, once for job, terms and coordinator."""

from __future__ import annotations

WEIGHT = "num-examples"
"""Flower's default key for a site's weight."""

ROUND = (WEIGHT, "loss", "accuracy", "auc", "average-precision", "brier", "classes-present")
"""Of a round: :func:`fedsm.learning.metrics.classification`."""

MODEL = (
    "loss",
    "accuracy",
    "auc",
    "auc-interval",
    "average-precision",
    "average-precision-interval",
    "brier",
    "calibration-slope",
    "calibration-intercept",
    "calibration-error",
)
"""Of any one model in the final report."""

PREFIXES = ("", "local-", "personal-")
"""Of the federation's model, the site's own and the fine-tuned one."""

GAPS = ("local-gap", "local-gap-interval", "personal-gap", "personal-gap-interval")
"""AUC gained over the site's own model: by the federation's, and by the fine-tuned one."""

COUNTS = ("num-classes", "num-confusion", "num-scores-positive", "num-scores-negative")
"""Rows by class."""

GROUPS = (
    "group-column",
    "group-value",
    "num-group-rows",
    "num-group-classes",
    "num-group-confusion",
    "groups-withheld",
)
"""Rows by group."""

REPORT = (
    WEIGHT,
    *(prefix + name for prefix in PREFIXES for name in MODEL),
    *GAPS,
    *COUNTS,
    *GROUPS,
    "importance",
)
"""Everything that a site may answer to ``evaluate.report``."""

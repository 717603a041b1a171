"""Data sets for demonstrations and tests, split into sites."""

from __future__ import annotations

from fedsm.datasets.base import Dataset, Federated, SiteTables, sizes, write_channels
from fedsm.datasets.breast_cancer import breast_cancer
from fedsm.datasets.cms_fraud import cms_fraud
from fedsm.datasets.heart_disease import heart_disease
from fedsm.datasets.heart_flamby import heart_flamby

__all__ = [
    "Dataset",
    "Federated",
    "SiteTables",
    "breast_cancer",
    "cms_fraud",
    "heart_disease",
    "heart_flamby",
    "sizes",
    "write_channels",
]

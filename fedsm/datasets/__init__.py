"""Data sets for demonstrations and tests, split into sites."""

from __future__ import annotations

from fedsm.datasets.base import Dataset, SiteTables, write_channels
from fedsm.datasets.breast_cancer import breast_cancer
from fedsm.datasets.heart_disease import heart_disease

__all__ = ["Dataset", "SiteTables", "breast_cancer", "heart_disease", "write_channels"]

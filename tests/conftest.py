"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def heart_data() -> Path:
    """Directory of UCI's four heart-disease files, kept beside the project."""
    directory = SHARED / "heart"
    if not directory.is_dir():
        pytest.skip("the UCI heart-disease files are not beside the project, in ../shared/data")
    return directory

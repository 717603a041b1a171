"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# CI provides everything else that a test may need, so that no other skip there is expected; nor
# are these where the data lie beside the project.
DATA_SKIPS = ("heart-disease files are not", "the CMS file is not", "the data are not")
EXPECTED_SKIPS = () if SHARED.is_dir() else DATA_SKIPS
_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(f"{report.nodeid}: {report.longrepr[2]}")  # type: ignore[index]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skip that nobody expected fails the run."""
    surprise = [line for line in _skipped if not any(e in line for e in EXPECTED_SKIPS)]
    if surprise and os.environ.get("FEDSM_CI") and not hasattr(session.config, "workerinput"):
        print("\nskipped unexpectedly:\n  " + "\n  ".join(surprise))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def heart_data() -> Path:
    """Directory of UCI's four heart-disease files, kept beside the project."""
    directory = SHARED / "heart"
    if not directory.is_dir():
        pytest.skip("the UCI heart-disease files are not beside the project, in ../shared/data")
    return directory

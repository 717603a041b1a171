"""The SageMaker SDK as a reader of experiments, in the interpreter that has it.

The SDK is large (about 1 GB) and lives in an interpreter of its own: `FEDSM_SAGEMAKER_PYTHON`
names it, or else this one has it. Neither: what needs it is skipped and says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

READER = Path(__file__).with_name("sdk_reader.py")


def interpreter() -> str | None:
    """The interpreter that has the SDK, None without one."""
    named = os.environ.get("FEDSM_SAGEMAKER_PYTHON")
    if named:
        return named
    return sys.executable if importlib.util.find_spec("sagemaker") else None


needs_sdk = pytest.mark.skipif(
    interpreter() is None,
    reason="the SageMaker SDK is not installed: `make references` puts it into an environment of "
    "its own and FEDSM_SAGEMAKER_PYTHON names its interpreter",
)


def read(session: boto3.Session, experiment: str, run: str) -> dict[str, Any]:
    """What ``list_runs`` and ``load_run`` give with a session's rights, at the session's cloud."""
    keys = session.get_credentials()
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", ""),
        "AWS_ENDPOINT_URL": session.client("sagemaker").meta.endpoint_url,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": session.region_name,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    if keys.token:
        environment["AWS_SESSION_TOKEN"] = keys.token
    done = subprocess.run(
        [str(interpreter()), str(READER), experiment, run],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document

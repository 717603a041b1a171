"""Names in SageMaker Experiments, by the rules of the SageMaker SDK's ``Run``.

The SDK knows no names but its own: it lower-cases experiment and run, takes at most 59 characters
of each, calls the trial ``Default-Run-Group-<experiment>`` and the trial component
``<experiment>-<run>``, and takes a component for a run only by its tag (source:
``sagemaker.core.experiments.run`` of version 3.27).
"""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 59
RUN_TAG = {"Key": "sagemaker:trial-component-source", "Value": "run"}
AGGREGATOR, CLIENT = "aggregator", "client"
SERVER = "server"
"""The aggregator's place in the name of its run: ``<run>-aggregator-server``."""

_DIGEST_LENGTH = 8
_OTHER = re.compile(r"[^a-z0-9]+")
_NO_TAG_CHARACTER = re.compile(r"[^\w .:/=+\-@]")


def experiment_name(prefix: str, federation: str) -> str:
    """Name of a federation's experiment: ``<prefix>-<federation>``.

    >>> experiment_name("fedsm", "heart-disease")
    'fedsm-heart-disease'
    """
    return _fitting(f"{prefix}-{federation}")


def run_name(run: str, role: str, site: str) -> str:
    """Name of one participant's run: ``<run>-<role>-<site>``.

    >>> run_name("20261120-101500-3f9a", CLIENT, "cleveland")
    '20261120-101500-3f9a-client-cleveland'
    """
    return _fitting(f"{run}-{role}-{site}")


def trial_name(experiment: str) -> str:
    """Name of the trial in which the SDK keeps an experiment's runs."""
    return f"Default-Run-Group-{experiment}"


def component_name(experiment: str, run: str) -> str:
    """Name of the trial component that holds a run; at most 119 characters."""
    return f"{experiment}-{run}"


def tag_value(text: str) -> str:
    """``text`` as a tag's value: other characters become ``_``, at most 256 are kept."""
    return _NO_TAG_CHARACTER.sub("_", text)[:256]


def _fitting(name: str) -> str:
    """``name`` in the characters and the length allowed.

    A name that loses more than its capitals ends in a hash of the original, so that two names that
    differ only in what was lost stay apart, always in the same way.
    """
    name = name.lower()
    plain = _OTHER.sub("-", name).strip("-")
    if plain == name and len(plain) <= MAX_LENGTH:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
    kept = plain[: MAX_LENGTH - _DIGEST_LENGTH - 1].rstrip("-")
    return f"{kept}-{digest}" if kept else digest

"""AWS's own list of actions, resources and condition keys, as parliament ships it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    # It leaves its data files open.
    warnings.simplefilter("ignore", ResourceWarning)
    import parliament

REFERENCE: list[dict[str, Any]] = json.loads(
    (Path(parliament.__file__).parent / "iam_definition.json").read_text(encoding="utf-8")
)
ACTIONS: dict[str, dict[str, Any]] = {
    f"{service['prefix']}:{action['privilege']}": action
    for service in REFERENCE
    for action in service["privileges"]
}

__all__ = ["ACTIONS", "parliament"]

"""Names of metrics and parameters as they appear in an experiment tracker.

Metrics are ``Group:Name``: ``Training:Loss``, ``Validation:AUC``, ``Test:AUC``, ``Round:Seconds``.
``Training`` is the train phase, ``Validation`` the sites' evaluate phase, ``Test`` the
coordinator's own rows, ``Report`` the final evaluation: of a site its own, of the server the pooled
one. A name that a training script chose keeps its words: ``f1-score`` of the
evaluate phase is ``Validation:F1Score``.

Parameters are kebab-case. Hyperparameters keep their own names; the usual synonyms are also found
under one common name (`COMMON`), so that runs of different scripts compare in one column.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

TRAINING, VALIDATION, TEST, ROUND = "Training", "Validation", "Test", "Round"
REPORT = "Report"
EXAMPLES = "num-examples"

COMMON: dict[str, tuple[str, ...]] = {
    "learning-rate": ("lr", "eta", "eta0", "learning-rate-init"),
    "batch-size": ("batch", "local-batch-size", "train-batch-size"),
    "epochs": ("local-epochs", "num-epochs", "n-epochs", "max-iter", "local-steps"),
    "optimizer": ("client-optimizer", "optim", "solver"),
    "weight-decay": ("wd", "l2"),
}
"""Common name of a hyperparameter, and the synonyms it is taken from in this order."""

_PREFIX = re.compile(r"^(?:train|training|eval|evaluate|val|valid|validation|test)[-_ .:/]+(?=.)")
_WORDS = re.compile(r"[^A-Za-z0-9]+")
_SAME = {"acc": "accuracy", "auroc": "auc", "rocauc": "auc", "logloss": "log-loss"}
_ACRONYMS = {"auc", "roc", "pr", "mse", "rmse", "mae", "r2", "f1", "tp", "fp", "tn", "fn"}


NOT_FINITE = "not a finite number"


def metric_name(group: str, key: str) -> str:
    """Name of a metric that a script calls ``key``.

    >>> metric_name(TRAINING, "train_loss"), metric_name(VALIDATION, "eval_acc")
    ('Training:Loss', 'Validation:Accuracy')
    """
    bare = _PREFIX.sub("", key.lower())
    bare = _SAME.get(_WORDS.sub("", bare), bare)
    words = [word for word in _WORDS.split(bare) if word]
    title = "".join(word.upper() if word in _ACRONYMS else word.capitalize() for word in words)
    return f"{group}:{title or key}"[:255]


def measured(group: str, metrics: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    """Pairs of a metric's name and its value, or the reason why it has none.

    Where two keys give one name, one has it and the other keeps its own words.
    """
    taken: set[str] = set()
    for key in sorted(metrics, key=lambda k: (k.lower() != metric_name("", k)[1:].lower(), k)):
        if key == EXAMPLES:
            continue
        name = metric_name(group, key)
        if name in taken:
            name = f"{group}:{key}"[:250]
        plain, number = name, 1
        while name in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name)
        yield name, number_or_reason(metrics[key])


def number_or_reason(value: Any) -> float | str:
    """``value`` as a finite float, or why it is none; the journal holds null for NaN."""
    if value is None:
        return NOT_FINITE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"a {type(value).__name__}, not a number"
    try:
        number = float(value)
    except OverflowError:
        return "too large a number"
    return number if math.isfinite(number) else "not a finite number"


def parameter(value: Any) -> float | int | str:
    """A parameter's value with its type: numbers stay numbers, the rest becomes text.

    Truth values, null, lists and mappings are written as JSON. A whole number that a double cannot
    hold is written as text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, int) and abs(value) <= 2**53:
            return value
        return str(value)
    return json.dumps(value, sort_keys=True, default=str)


def hyperparameters(values: Mapping[str, Any]) -> dict[str, float | int | str]:
    """Hyperparameters under their own names, and the usual ones under their common names too."""
    named = {key: parameter(value) for key, value in values.items()}
    folded = {_WORDS.sub("-", key.lower()): value for key, value in named.items()}
    for common, synonyms in COMMON.items():
        found = next((folded[name] for name in (common, *synonyms) if name in folded), None)
        if found is not None:
            named.setdefault(common, found)
    return named

"""How this site's rows are read: edit this file for another format.

A channel is a folder that SageMaker filled from S3. All its ``*.csv`` files are read as one table;
the hyperparameter ``label`` names the label's column.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from flwr.app import Context

from fedsm.errors import DataError
from fedsm.learning.tables import Table, read_csv


def train_rows(context: Context) -> Table:
    """Rows of the channel ``train``."""
    folder = context.node_config.get("channel-train")
    if folder is None:
        raise DataError("there is no channel 'train'", action="add it to the site's channels")
    return _read(Path(str(folder)), str(context.run_config.get("label", "target")))


def validation_rows(context: Context) -> Table:
    """Rows of the channel ``validation``; none where the site has no such channel."""
    folder = context.node_config.get("channel-validation")
    if folder is None:
        return train_rows(context).take(np.zeros(0, dtype=np.intp))
    return _read(Path(str(folder)), str(context.run_config.get("label", "target")))


@cache
def _read(folder: Path, label: str) -> Table:
    """Read once; the rounds reuse it."""
    return read_csv(sorted(folder.rglob("*.csv")), label=label)

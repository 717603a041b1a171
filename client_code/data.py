"""How this site's rows are read: edit this file for another format.

A channel is a folder that SageMaker filled from S3. All its ``*.csv`` files are read as one table,
or all its ``*.npz`` files as one sparse table; the hyperparameter ``label`` names the label's
column, ``categories`` the columns that are text or codes rather than numbers. Where a
``schema.json`` lies beside this file, rows that are not as it says are refused.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from flwr.app import Context

from fedsm.client import log
from fedsm.errors import DataError
from fedsm.learning.channels import read_rows
from fedsm.learning.schema import FILE, AnyTable, Schema
from fedsm.learning.tables import category_names


def train_rows(context: Context) -> AnyTable:
    """Rows of the channel ``train``."""
    return _rows(context)[0]


def validation_rows(context: Context) -> AnyTable:
    """Rows of the channel ``validation``; none where the site has no such channel."""
    return _rows(context)[1]


def _rows(context: Context) -> tuple[AnyTable, AnyTable]:
    site = str(context.node_config.get("site", "this site"))
    train, validation = (
        str(context.node_config.get(f"channel-{name}", "")) for name in ("train", "validation")
    )
    if not train:
        raise DataError(
            "there is no channel 'train'", where=site, action="add it to the site's channels"
        )
    label = str(context.run_config.get("label", "target"))
    return _read(site, train, validation, label, category_names(context.run_config))


@cache
def _read(
    site: str, train: str, validation: str, label: str, categories: tuple[str, ...]
) -> tuple[AnyTable, AnyTable]:
    """Read once, so that a fault of either channel shows before round 1; the rounds reuse it."""
    schema = Schema.read(Path(__file__).with_name(FILE))

    def read(folder: str, channel: str) -> AnyTable:
        where = f"{site}, {channel}"
        return read_rows(
            Path(folder), label=label, categories=categories, schema=schema, where=where
        )

    rows = read(train, "train")
    if not len(rows):
        raise DataError(
            "there is no training row",
            where=f"{site}, train",
            action="put rows into the train channel, or leave the site out",
        )
    if not validation:
        return rows, rows.take(np.zeros(0, dtype=np.intp))
    held_out = read(validation, "validation")
    if both := schema.check_repeats(rows, held_out, where=site):
        log.line("repeated", train_rows_in_validation=both)
    return rows, held_out

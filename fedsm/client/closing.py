"""Leaves the models in the folder that becomes ``model.tar.gz``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord

from fedsm.client import log
from fedsm.client.contract import Value
from fedsm.errors import ConfigError
from fedsm.learning import models
from fedsm.learning.arrays import save_npz
from fedsm.learning.preparation import Summary


def save(
    folder: Path,
    stem: str,
    arrays: ArrayRecord,
    config: ConfigRecord,
    *,
    model: str,
    run_config: Mapping[str, Value],
    code: Path | None = None,
) -> Path:
    """Write arrays as a model.

    Parameters
    ----------
    folder : Path
        The model folder.
    stem : str
        ``model`` for the global one, ``local`` for the site's own of its last round, ``personal``
        for the fine-tuned one.
    arrays : ArrayRecord
    config : ConfigRecord
        Holds the federation's statistics, if it was prepared.
    model : str
        Name of the model adapter; empty for none.
    code : Path, optional
        Folder of the client code, for an adapter that is there.

    Returns
    -------
    Path
        ``<stem>.joblib`` by the adapter; ``<stem>.npz`` without one, or without statistics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = _summary(config) if model else None
    if summary is None:
        path = folder / f"{stem}.npz"
        save_npz(path, arrays)
    else:
        path = folder / f"{stem}.joblib"
        made = models.adapter(model, code)
        models.save(made.build(arrays, summary, run_config), path)
    log.line("saved", file=path.name, bytes=path.stat().st_size)
    return path


def _summary(config: ConfigRecord) -> Summary | None:
    try:
        return Summary.from_config(config)
    except ConfigError:
        return None

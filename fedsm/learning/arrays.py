"""Arrays on disk: an ``ArrayRecord`` as an ``.npz`` file, without pickles.

The same arrays give the same bytes at the coordinator and at every site.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from flwr.app import Array, ArrayRecord

from fedsm.errors import TrainingError


def arrays_to_npz(arrays: ArrayRecord) -> bytes:
    """An ``ArrayRecord`` as the bytes of an ``.npz`` file."""
    buffer = io.BytesIO()
    _write(buffer, arrays)
    return buffer.getvalue()


def save_npz(path: Path, arrays: ArrayRecord) -> None:
    """Write an ``.npz`` file array by array, whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        _write(file, arrays)
    part.replace(path)


def _write(file: IO[bytes], arrays: ArrayRecord) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            # ZipInfo's own date is fixed; the clock must not reach the bytes.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array.numpy(), allow_pickle=False)


def arrays_from_npz(path: Path) -> ArrayRecord:
    """Read an ``.npz`` file, without pickles.

    Raises
    ------
    TrainingError
        The file cannot be read.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return ArrayRecord({name: Array(file[name]) for name in file.files})
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise TrainingError(
            "is not a readable .npz file", where=str(path), action="give the path of an .npz file"
        ) from error


def in_types_of(arrays: ArrayRecord, reference: ArrayRecord) -> ArrayRecord:
    """Arrays in the number types of those of the same names; whole numbers are rounded.

    Strategies compute in wider types than they were given, as FedAdam does with float32; a job
    answers in its model's.
    """

    def cast(name: str, array: Array) -> Array:
        wanted = reference.get(name)
        if wanted is None or wanted.dtype == array.dtype:
            return array
        values = array.numpy()
        whole = np.issubdtype(np.dtype(wanted.dtype), np.integer)
        with np.errstate(over="ignore", invalid="ignore"):  # whoever uses them looks for these
            return Array((np.rint(values) if whole else values).astype(wanted.dtype))

    return ArrayRecord({name: cast(name, array) for name, array in arrays.items()})

"""Counts of few rows do not leave a site: what every count that does is made of. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def merge_small(counts: Counts, smallest: int) -> Counts:
    """Move counts to neighbouring bins until none is from 1 to ``smallest - 1``.

    From the first bin on, counts are carried to the next until enough have come together; what is
    left over goes to the last bin that has any. The sum stays, and no row moves past a bin that
    keeps its own.

    Parameters
    ----------
    counts : ndarray of int, shape (bins,)
    smallest : int

    Returns
    -------
    ndarray of int, shape (bins,)
        All zero where fewer than ``smallest`` rows are counted.
    """
    out = np.zeros_like(counts)
    if counts.sum() < smallest:
        return out
    carried, last = 0, -1
    for at in np.flatnonzero(counts).tolist():
        carried += int(counts[at])
        if carried >= smallest:
            out[at], last, carried = carried, at, 0
    out[last] += carried
    return out

"""Federated preparation: rows scaled, imputed and encoded alike at all sites, by sums over them.

Up to three queries before round 1, each answered by a site with sums or counts of its training
rows, none of them of a single row:

==============  =====================================================================  ===========
query           a site's answer                                                        module
==============  =====================================================================  ===========
``statistics``  per numeric feature count, sum and sum of squares; rows per class      moments
``categories``  of the columns that hold categories, those of enough rows              categories
``histograms``  per numeric feature how many rows are in each bin, where quantiles     histograms
                or medians are wanted
==============  =====================================================================  ===========

What the coordinator makes of them is a :class:`Summary`: every site gets it with the rounds'
messages, and it is part of the final model as fitted scikit-learn transformers.
"""

from __future__ import annotations

from fedsm.learning.preparation import categories, histograms
from fedsm.learning.preparation.moments import STATISTICS, combine, statistics, usable
from fedsm.learning.preparation.one_site import alone
from fedsm.learning.preparation.summary import Summary

__all__ = [
    "STATISTICS",
    "Summary",
    "alone",
    "categories",
    "combine",
    "histograms",
    "statistics",
    "usable",
]

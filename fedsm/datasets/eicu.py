"""eICU mortality: from the raw tables to one sparse row per stay, over sites of whole hospitals.

Pollard et al. 2018, eICU-CRD 2.0, PhysioNet, under a data-use agreement; tables that only look
like it: :mod:`fedsm.datasets.eicu_lookalike`. Whether a patient dies in hospital is predicted from
the first hours in the unit, hour by hour. With the published study's span of 50 windows and its
442 columns a window, a row has 22,100 inputs.

A site runs ``prepare`` and ``own_site`` on its own tables; ``eicu`` plays all sites on one copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsm.datasets.base import Channels, Federated
from fedsm.datasets.eicu_cohort import Cohort, read_cohort
from fedsm.datasets.eicu_rows import (
    LEAST,
    Vocabulary,
    agree,
    column_names,
    diagnosis_counts,
    fill_forward,
    one_row_a_stay,
    read_apache,
)
from fedsm.datasets.eicu_split import Hospitals, HospitalSplit, hold_out, split_hospitals
from fedsm.datasets.eicu_windows import Span, read_windows
from fedsm.datasets.resampling import class_weights
from fedsm.datasets.splits import COMPASS, require_binary
from fedsm.errors import DataError
from fedsm.learning.sparse_tables import SparseTable

NAME = "eicu"

LABEL = "hospitaldischargestatus"


@dataclass(frozen=True)
class Report:
    """What preparing did, in numbers that say nothing of any one patient.

    Attributes
    ----------
    stays, records : int
        Rows, and their hourly windows with a chart.
    class_counts, class_weights : mapping
        Label to rows, and to the weight under which the classes count alike.
    excluded : mapping of str to int
        Criterion to the stays that it left out.
    outside : mapping of str to int
        ``table.column`` to the values beyond their range, taken as missing.
    never_charted : tuple of str
        Variables without any chart here, imputed throughout.
    unnamed_diagnoses : int
        Stays whose diagnosis has no column of its own.
    """

    stays: int
    records: int
    class_counts: Mapping[int | str, int]
    class_weights: Mapping[int | str, float]
    excluded: Mapping[str, int]
    outside: Mapping[str, int]
    never_charted: tuple[str, ...]
    unnamed_diagnoses: int


@dataclass(frozen=True)
class Prepared:
    """One row per stay of the cohort.

    Attributes
    ----------
    rows : SparseTable
    stays, hospitals : ndarray of int64, shape (rows,)
    report : Report
    """

    rows: SparseTable
    stays: NDArray[np.int64] = field(repr=False)
    hospitals: NDArray[np.int64] = field(repr=False)
    report: Report


def prepare(
    directory: Path,
    *,
    vocabulary: Vocabulary | None = None,
    span: Span | None = None,
    cohort: Cohort | None = None,
) -> Prepared:
    """Prepare the tables of one site, or of all.

    Parameters
    ----------
    directory : Path
        Holds ``patient``, ``apacheApsVar``, ``vitalPeriodic``, ``vitalAperiodic``, ``lab`` and
        ``nurseCharting`` as CSV or CSV.gz.
    vocabulary : Vocabulary, optional
        What the federation agreed on; without it what these tables have often enough.
    span : Span, optional
        48 hours after admission and 2 before it, without it.
    cohort : Cohort, optional
        Of these tables, where they have been read already.

    Raises
    ------
    DataError
        A table is missing or cannot be used; names file and column.
    """
    span = span or Span()
    cohort = cohort or read_cohort(directory)
    vocabulary = vocabulary or agree({"here": diagnosis_counts(cohort.diagnoses)})
    start = read_apache(directory, cohort.stays)
    windows = read_windows(directory, cohort.stays, span)
    features = one_row_a_stay(cohort, fill_forward(windows, start), vocabulary)
    classes, counts = np.unique(cohort.labels, return_counts=True)
    report = Report(
        stays=len(cohort),
        records=windows.records,
        class_counts=dict(zip(classes.tolist(), counts.tolist(), strict=True)),
        class_weights=class_weights(cohort.labels),
        excluded=cohort.excluded,
        outside=windows.outside,
        never_charted=windows.never_charted,
        unnamed_diagnoses=int((~np.isin(cohort.diagnoses, vocabulary.diagnoses)).sum()),
    )
    rows = SparseTable(column_names(vocabulary, span), features, cohort.labels)
    return Prepared(rows, cohort.stays, cohort.hospitals, report)


def own_site(prepared: Prepared, seed: int = 0) -> Channels[SparseTable]:
    """A site's own rows as its two channels.

    Parameters
    ----------
    prepared : Prepared
    seed : int
        Of the split: by hospitals, or by stays where the site is one hospital.
    """
    validation = hold_out(prepared.hospitals, seed)
    train = np.setdiff1d(np.arange(len(prepared.rows)), validation, assume_unique=True)
    return Channels(prepared.rows.take(train), prepared.rows.take(validation))


@dataclass(frozen=True)
class SparseDataset(Federated[SparseTable]):
    """The rows of :func:`eicu`; the test's are of hospitals that no site has.

    Attributes
    ----------
    split : HospitalSplit
    report : Report
        Of all rows together.
    """

    split: HospitalSplit = field(repr=False)
    report: Report


def eicu(
    directory: Path,
    seed: int = 0,
    *,
    sites: Sequence[str] | HospitalSplit = COMPASS,
    vocabulary: Vocabulary | None = None,
    span: Span | None = None,
    least: int = LEAST,
) -> SparseDataset:
    """Sites of about equal size that share no hospital, with a test of other hospitals.

    Parameters
    ----------
    directory : Path
        As in :func:`prepare`.
    seed : int
        Of the split.
    sites : sequence of str or HospitalSplit
        Names of sites to draw hospitals for, or who has which.
    vocabulary : Vocabulary, optional
        Without it, what the sites agree on from their training hospitals.
    span : Span, optional
        As in :func:`prepare`.
    least : int
        Fewer stays of a diagnosis than this do not leave a site.

    Raises
    ------
    DataError
        As :func:`prepare` and :func:`~fedsm.datasets.eicu_split.split_hospitals`; or a hospital
        that is named has no stay, or all training or all test labels are of one class.
    """
    cohort = read_cohort(directory)
    split = sites
    if not isinstance(split, HospitalSplit):
        split = split_hospitals(cohort.hospitals, split, seed)
    rows = {site: _rows(cohort, h.train, f"{site}, train") for site, h in split.sites.items()}
    test = _rows(cohort, split.test, "test")
    require_binary(cohort.labels[np.concatenate(list(rows.values()))], "train, " + LABEL)
    require_binary(cohort.labels[test], "test, " + LABEL)
    if vocabulary is None:
        vocabulary = agree(
            {site: diagnosis_counts(cohort.diagnoses[r], least) for site, r in rows.items()}
        )
    prepared = prepare(directory, vocabulary=vocabulary, span=span, cohort=cohort)
    table = prepared.rows
    return SparseDataset(
        NAME,
        table.columns,
        LABEL,
        {
            site: Channels(
                table.take(rows[site]),
                table.take(_rows(cohort, hospitals.validation, f"{site}, validation")),
            )
            for site, hospitals in split.sites.items()
        },
        table.take(test),
        split,
        prepared.report,
    )


def _rows(cohort: Cohort, hospitals: Hospitals, where: str) -> NDArray[np.intp]:
    rows = np.flatnonzero(np.isin(cohort.hospitals, list(hospitals)))
    if hospitals and not len(rows):
        raise DataError(
            "none of its hospitals has a stay in the cohort",
            where=where,
            action="see which hospitals column 'hospitalid' of patient names",
        )
    return rows

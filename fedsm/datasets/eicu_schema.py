"""What is read of the eICU Collaborative Research Database, and how it is cleaned.

Tables and columns: eICU-CRD 2.0 (Pollard et al. 2018, Scientific Data 5:180178), as its published
CSV files name them. Variables, and the value taken where nothing is known: Sheikhalishahi,
Balaraman and Osmani 2020, "Benchmarking machine learning models on multi-centre eICU critical care
dataset", PLoS ONE 15(7). Ranges: the same, with the Glasgow scales' own bounds and, for FiO2, those
of the database's published queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

STAY = "patientunitstayid"


@dataclass(frozen=True)
class OtherUnit:
    """A unit in which some charts give a variable; its values cannot be mistaken for the usual.

    Attributes
    ----------
    low, high : float
        A value between them, ends included, is in this unit.
    shift, factor : float
        ``(value - shift) * factor`` is in the usual unit.
    """

    low: float
    high: float
    shift: float
    factor: float


@dataclass(frozen=True)
class Variable:
    """One physiological variable.

    Attributes
    ----------
    name, unit : str
    low, high : float
        A value beyond them is an artefact, and taken as missing.
    typical : float
        Imputed where neither a chart nor the day's APACHE variables know.
    other_unit : OtherUnit, optional
    whole : bool
        Whether a value that is no whole number is an artefact too.
    """

    name: str
    unit: str
    low: float
    high: float
    typical: float
    other_unit: OtherUnit | None = None
    whole: bool = False


MEASURED = (
    Variable("heart-rate", "1/min", 0, 350, 86),
    Variable("mean-arterial-pressure", "mmHg", 14, 330, 77),
    Variable("diastolic-pressure", "mmHg", 0, 375, 56),
    Variable("systolic-pressure", "mmHg", 0, 375, 118),
    Variable("oxygen-saturation", "%", 0, 100, 98),
    Variable("respiratory-rate", "1/min", 0, 100, 19),
    # Fahrenheit and fractions come without a unit that could be trusted, but far apart.
    Variable("temperature", "Celsius", 26, 45, 36, OtherUnit(78.8, 113, 32, 5 / 9)),
    Variable("glucose", "mg/dL", 33, 1200, 128),
    Variable("fio2", "%", 20, 100, 21, OtherUnit(0.2, 1, 0, 100)),
    Variable("ph", "", 6.3, 10, 7.4),
)
"""Numbers charted over time. Blood pressures are invasive or not, whichever came last."""

SCORES = (
    Variable("gcs-total", "", 3, 15, 15, whole=True),
    Variable("gcs-eyes", "", 1, 4, 4, whole=True),
    Variable("gcs-motor", "", 1, 6, 6, whole=True),
    Variable("gcs-verbal", "", 1, 5, 5, whole=True),
)
"""Glasgow Coma Scale: whole numbers charted over time, used as categories."""

CHARTED = MEASURED + SCORES

CODE = {variable.name: code for code, variable in enumerate(CHARTED)}

ADMISSION = (
    Variable("admission-height", "cm", 100, 240, 170),
    Variable("admission-weight", "kg", 30, 250, 81),
    Variable("age", "years", 0, 90, 65),
)
"""Numbers known at admission. An age of "> 89", as the database gives it, is 90."""

GENDERS = ("Female", "Male", "other")
ETHNICITIES = (
    "African American",
    "Asian",
    "Caucasian",
    "Hispanic",
    "Native American",
    "other",
)
OTHER = "other"
"""The category of what is blank, unknown or too rare to name."""


@dataclass(frozen=True)
class WideTable:
    """A table with one column per variable.

    Attributes
    ----------
    name, row_id, offset : str
        File without its ending; columns of the row's id and of the minute since admission.
    columns : mapping of str to str
        Column to the variable that it holds.
    """

    name: str
    row_id: str
    offset: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class LongTable:
    """A table with one row per chart.

    Attributes
    ----------
    name, row_id, offset, value : str
        As in :class:`WideTable`; ``value`` is the column of the charted value.
    keys : tuple of str
        The columns that say which variable a row is of.
    items : mapping of tuple of str to str
        What ``keys`` hold, to the variable. Other rows are passed over.
    text : bool
        Whether a value may be words, which are passed over.
    """

    name: str
    row_id: str
    offset: str
    value: str
    keys: tuple[str, ...]
    items: Mapping[tuple[str, ...], str] = field(repr=False)
    text: bool


TABLES: tuple[WideTable | LongTable, ...] = (
    WideTable(
        "vitalPeriodic",
        "vitalperiodicid",
        "observationoffset",
        {
            "temperature": "temperature",
            "sao2": "oxygen-saturation",
            "heartrate": "heart-rate",
            "respiration": "respiratory-rate",
            "systemicsystolic": "systolic-pressure",
            "systemicdiastolic": "diastolic-pressure",
            "systemicmean": "mean-arterial-pressure",
        },
    ),
    WideTable(
        "vitalAperiodic",
        "vitalaperiodicid",
        "observationoffset",
        {
            "noninvasivesystolic": "systolic-pressure",
            "noninvasivediastolic": "diastolic-pressure",
            "noninvasivemean": "mean-arterial-pressure",
        },
    ),
    LongTable(
        "lab",
        "labid",
        "labresultoffset",
        "labresult",
        ("labname",),
        {
            ("glucose",): "glucose",
            ("bedside glucose",): "glucose",
            ("pH",): "ph",
            ("FiO2",): "fio2",
        },
        text=False,
    ),
    LongTable(
        "nurseCharting",
        "nursingchartid",
        "nursingchartoffset",
        "nursingchartvalue",
        ("nursingchartcelltypevallabel", "nursingchartcelltypevalname"),
        {
            ("Heart Rate", "Heart Rate"): "heart-rate",
            ("Respiratory Rate", "Respiratory Rate"): "respiratory-rate",
            ("O2 Saturation", "O2 Saturation"): "oxygen-saturation",
            ("Non-Invasive BP", "Non-Invasive BP Systolic"): "systolic-pressure",
            ("Non-Invasive BP", "Non-Invasive BP Diastolic"): "diastolic-pressure",
            ("Non-Invasive BP", "Non-Invasive BP Mean"): "mean-arterial-pressure",
            ("Invasive BP", "Invasive BP Systolic"): "systolic-pressure",
            ("Invasive BP", "Invasive BP Diastolic"): "diastolic-pressure",
            ("Invasive BP", "Invasive BP Mean"): "mean-arterial-pressure",
            ("MAP (mmHg)", "Value"): "mean-arterial-pressure",
            ("Arterial Line MAP (mmHg)", "Value"): "mean-arterial-pressure",
            ("Temperature", "Temperature (C)"): "temperature",
            ("Temperature", "Temperature (F)"): "temperature",
            ("Glasgow coma score", "GCS Total"): "gcs-total",
            ("Glasgow coma score", "Eyes"): "gcs-eyes",
            ("Glasgow coma score", "Motor"): "gcs-motor",
            ("Glasgow coma score", "Verbal"): "gcs-verbal",
            ("Score (Glasgow Coma Scale)", "Value"): "gcs-total",
        },
        text=True,
    ),
)
"""In the order in which they yield to each other: of two charts of one minute, the later table's
counts, because a nurse has looked at it."""

APACHE = {
    "eyes": "gcs-eyes",
    "motor": "gcs-motor",
    "verbal": "gcs-verbal",
    "temperature": "temperature",
    "respiratoryrate": "respiratory-rate",
    "heartrate": "heart-rate",
    "meanbp": "mean-arterial-pressure",
    "ph": "ph",
    "glucose": "glucose",
    "fio2": "fio2",
}
"""Columns of ``apacheApsVar``, the first day's variables of the APACHE score; -1 is missing."""

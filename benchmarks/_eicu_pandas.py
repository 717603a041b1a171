"""The same preparation of eICU's tables with vectorised pandas: what fedsm's is measured against.

Every table is read in chunks with only the columns needed, and reduced chunk by chunk, so that it
fits into memory; no loop runs over rows or patients. Only the last step, which neither library
knows, is fedsm's own: from filled values to one sparse row a stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from fedsm.datasets.eicu_cohort import Cohort
from fedsm.datasets.eicu_rows import Vocabulary, one_row_a_stay
from fedsm.datasets.eicu_schema import (
    ADMISSION,
    APACHE,
    CHARTED,
    CODE,
    ETHNICITIES,
    GENDERS,
    STAY,
    TABLES,
    LongTable,
    Variable,
    WideTable,
)
from fedsm.datasets.eicu_windows import Span

CHUNK = 2_000_000

_IDS = 2**34
"""Cell, minute and row id stand in one whole number, because sorting by one key is fastest."""


def prepare(directory: Path, vocabulary: Vocabulary, span: Span) -> tuple[csr_array, int]:
    """Sparse rows and the number of hourly records."""
    cohort = _cohort(directory)
    grid = len(cohort) * len(span)
    parts = [
        part.assign(rank=rank)
        for rank, table in enumerate(TABLES)
        for part in _table(directory, table, cohort, span)
    ]
    charts = (
        pd.concat(parts, ignore_index=True)
        .sort_values(["code", "cell", "minute", "rank"])
        .drop_duplicates(["code", "cell"], keep="last")
    )
    values = pd.DataFrame(
        np.nan, index=np.arange(grid), columns=[v.name for v in CHARTED], dtype=np.float32
    )
    for code, group in charts.groupby("code"):
        values.iloc[group["cell"].to_numpy(), code] = group["value"].astype(np.float32)
    records = charts["cell"].nunique()
    stay = np.repeat(np.arange(len(cohort)), len(span))
    filled = values.groupby(stay).ffill()
    start = _start(directory, cohort)
    for variable in CHARTED:
        if variable.name != "gcs-total":
            known = pd.Series(start[variable.name].to_numpy()[stay], index=filled.index)
            filled[variable.name] = filled[variable.name].fillna(known)
    parts_ = filled["gcs-eyes"] + filled["gcs-motor"] + filled["gcs-verbal"]
    filled["gcs-total"] = filled["gcs-total"].fillna(parts_)
    cube = filled.to_numpy().reshape(len(cohort), len(span), len(CHARTED))
    return one_row_a_stay(cohort, cube, vocabulary), int(records)


def _cohort(directory: Path) -> Cohort:
    rows = pd.read_csv(directory / "patient.csv.gz").drop_duplicates()
    rows["age"] = pd.to_numeric(rows["age"].replace("> 89", "90"))
    single = ~rows["uniquepid"].duplicated(keep=False)
    rows = rows[
        rows["hospitaldischargestatus"].notna()
        & (rows["unitdischargeoffset"] >= 2_880)
        & ~(rows["age"] < 18)
        & single
    ].sort_values(STAY)
    columns = ["admissionheight", "admissionweight", "age"]
    numbers = [
        rows[c].where(rows[c].between(v.low, v.high)).fillna(v.typical)
        for c, v in zip(columns, ADMISSION, strict=True)
    ]
    codes = [
        rows[column].map({name: i for i, name in enumerate(names)}).fillna(names.index("other"))
        for column, names in (("gender", GENDERS), ("ethnicity", ETHNICITIES))
    ]
    return Cohort(
        stays=rows[STAY].to_numpy(),
        hospitals=rows["hospitalid"].to_numpy(),
        labels=(rows["hospitaldischargestatus"] == "Expired").to_numpy(dtype=np.int64),
        admission=np.column_stack(numbers).astype(np.float32),
        genders=codes[0].to_numpy(dtype=np.uint8),
        ethnicities=codes[1].to_numpy(dtype=np.uint8),
        diagnoses=rows["apacheadmissiondx"].fillna("other").to_numpy(dtype=np.str_),
        excluded={},
    )


def _table(
    directory: Path, table: WideTable | LongTable, cohort: Cohort, span: Span
) -> Iterator[pd.DataFrame]:
    """The last chart of each window and variable."""
    wide = isinstance(table, WideTable)
    types: dict[str, Any] = {table.row_id: np.int64, STAY: np.int64, table.offset: np.int64}
    if isinstance(table, WideTable):
        types |= dict.fromkeys(table.columns, np.float64)
    else:
        types |= dict.fromkeys(table.keys, "category")
        types[table.value] = "str" if table.text else np.float64
    first = pd.Series(np.arange(len(cohort)) * len(span), index=cohort.stays)
    last: dict[int, list[pd.DataFrame]] = {}
    with pd.read_csv(
        directory / f"{table.name}.csv.gz", usecols=list(types), dtype=types, chunksize=CHUNK
    ) as chunks:
        for rows in chunks:
            rows = rows[
                rows[table.offset].between(-60 * span.before, 60 * span.hours - 1)
                & rows[STAY].isin(cohort.stays)
            ]
            minute = rows[table.offset] + 60 * span.before
            cell = rows[STAY].map(first) + minute // 60
            rows = rows.assign(
                cell=cell, key=(cell * 60 + minute % 60) * _IDS + rows[table.row_id]
            ).sort_values("key")
            each = (_by_column if wide else _by_item)(table, rows)
            for code, values in each:
                last.setdefault(code, []).append(values.drop_duplicates("cell", keep="last"))
    for code, some in last.items():
        charts = pd.concat(some).sort_values("key").drop_duplicates("cell", keep="last")
        minute = charts["key"] // _IDS % 60
        yield charts[["cell", "value"]].assign(minute=minute, code=code)


def _by_column(table: Any, rows: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    for column, name in table.columns.items():
        value = _clean(rows[column], CHARTED[CODE[name]])
        kept = value.notna()
        yield CODE[name], rows.loc[kept, ["cell", "key"]].assign(value=value[kept])


def _by_item(table: Any, rows: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    code = pd.Series(-1, index=rows.index)
    for item, name in table.items.items():
        match = np.logical_and.reduce(
            [rows[key] == what for key, what in zip(table.keys, item, strict=True)]
        )
        code[match] = CODE[name]
    rows = rows.assign(code=code)[code >= 0]
    value = pd.to_numeric(rows[table.value], errors="coerce")
    for found, group in rows.assign(value=value).groupby("code"):
        kept = _clean(group["value"], CHARTED[int(found)])
        yield int(found), group[["cell", "key"]].assign(value=kept)[kept.notna()]


def _clean(value: pd.Series, variable: Variable) -> pd.Series:
    if (unit := variable.other_unit) is not None:
        other = value.between(unit.low, unit.high)
        value = value.where(~other, (value - unit.shift) * unit.factor)
    value = value.where(value.between(variable.low, variable.high))
    return value.where(value % 1 == 0) if variable.whole else value


def _start(directory: Path, cohort: Cohort) -> pd.DataFrame:
    rows = pd.read_csv(directory / "apacheApsVar.csv.gz").drop_duplicates().set_index(STAY)
    rows = rows.reindex(cohort.stays)
    start = pd.DataFrame({v.name: v.typical for v in CHARTED}, index=rows.index, dtype=np.float32)
    for column, name in APACHE.items():
        value = _clean(rows[column], CHARTED[CODE[name]]).astype(np.float32)
        start[name] = value.fillna(start[name])
    return start

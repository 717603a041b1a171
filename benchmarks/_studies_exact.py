"""The exact strategy on small public rows: coefficients beside scikit-learn's, and rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks._studies_results import figure
from benchmarks.exact import CLOSE, SMALL, newton_row

MOST_ROUNDS = {1.0: 10, 1e4: 20}
"""C to the rounds that it may take."""

QUICK = ("breast-cancer", "heart-disease")


def rows_of(data: Path, quick: bool) -> list[dict[str, Any]]:
    """A row for each set of rows that is there, and each C."""
    wanted = [one for one in SMALL if not quick or one[0] in QUICK]
    found = [newton_row(name, c, weight, data) for name, c, weight in wanted]
    return [row for row in found if row is not None]


def figures_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What they must reach."""
    found = []
    for row in rows:
        rounds, most, off = row["rounds"], MOST_ROUNDS[row["c"]], row["max_abs_coef_diff"]
        name = f"exact, {row['study']}, C={row['c']:g}"
        met = row["converged"] and rounds <= most
        found.append(figure(f"{name}: rounds", rounds, f"<= {most}", met))
        found.append(figure(f"{name}: max_abs_coef_diff", off, f"<= {CLOSE:g}", off <= CLOSE))
    return found

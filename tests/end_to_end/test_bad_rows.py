"""Bad rows: each met in the site's job, told with site, file and column, and nothing of a row."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord

from fedsm.assets import asset
from fedsm.datasets import breast_cancer, write_channels
from fedsm.errors import DataError, QuorumLost
from fedsm.learning.models import adapter
from fedsm.learning.preparation import Summary, combine, usable
from fedsm.learning.strategies import make_strategy
from fedsm.studies import study
from tests.end_to_end.conftest import Project
from tests.learning.inprocess import InProcessGrid, fresh_app

Rows = list[list[str]]
"""A CSV file; the header comes first, the label last."""

SECRET = "4711.25"

RADIUS = "mean_radius"


def drop(rows: Rows, name: str) -> None:
    at = rows[0].index(name)
    for row in rows:
        del row[at]


def add(rows: Rows, name: str) -> None:
    for at, row in enumerate(rows):
        row.insert(0, SECRET if at else name)


def put(rows: Rows, name: str, value: str, lines: slice = slice(1, 2)) -> None:
    at = rows[0].index(name)
    for row in rows[lines]:
        row[at] = value


def only(rows: Rows, label: str) -> None:
    rows[1:] = [row for row in rows[1:] if row[-1] == label]


EVERY = slice(1, None)

REFUSED: dict[str, tuple[str, Callable[[Rows], object], str]] = {
    "a missing column": ("train", lambda r: drop(r, RADIUS), "lacks column 'mean_radius'"),
    "a missing column of the other channel": (
        "validation",
        lambda r: drop(r, RADIUS),
        "lacks column 'mean_radius'",
    ),
    "no label": ("train", lambda r: drop(r, "target"), "has no label column 'target'"),
    "a wrong type": (
        "train",
        lambda r: put(r, RADIUS, f"x{SECRET}"),
        "column 'mean_radius' is not a number in line 2",
    ),
    "units out of range": (
        "train",
        lambda r: put(r, RADIUS, SECRET),
        "column 'mean_radius' is above 100 mm in 1 row",
    ),
    "a value below its range": (
        "validation",
        lambda r: put(r, RADIUS, f"-{SECRET}", slice(1, 4)),
        "column 'mean_radius' is below 0 mm in 3 rows",
    ),
    "a label that is not binary": (
        "train",
        lambda r: put(r, "target", "2"),
        "the label, column 'target', is none of 0, 1 in 1 row",
    ),
    "a label that is text": (
        "train",
        lambda r: put(r, "target", f"y{SECRET}"),
        "the label, column 'target', is none of 0, 1",
    ),
    "a missing label": ("train", lambda r: put(r, "target", ""), "column 'target' is missing"),
    "an unknown column": (
        "train",
        lambda r: add(r, "name"),
        "has column 'name', which schema.json does not name",
    ),
    "an empty site": ("train", lambda r: r.__delitem__(EVERY), "no training row"),
    "duplicates": ("train", lambda r: r.append(r[1]), "1 different rows stand twice in train"),
}


class Site:
    """One site's files, and the shipped app on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def edit(self, channel: str, how: Callable[[Rows], object]) -> None:
        path = self.folder / channel / f"{channel}.csv"
        rows = list(csv.reader(path.read_text().splitlines()))
        how(rows)
        path.write_text("".join(",".join(row) + "\n" for row in rows))

    @property
    def channels(self) -> dict[str, Path]:
        return {name: self.folder / name for name in ("train", "validation")}


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client code of the study, with a range for one column."""
    place = tmp_path_factory.mktemp("code")
    about = study("breast-cancer")
    for file in (*asset("client_code").glob("*.py"), *about.code.iterdir()):
        (place / file.name).write_bytes(file.read_bytes())
    schema = json.loads((place / "schema.json").read_text())
    schema["columns"][RADIUS] = {"unit": "mm", "low": 0, "high": 100}
    (place / "schema.json").write_text(json.dumps(schema))
    return place


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, Site]:
    return {name: Site(tmp_path / name) for name in write_channels(breast_cancer(), tmp_path)}


def grid(code: Path, *sites: Site, **run_config: Any) -> InProcessGrid:
    return InProcessGrid(fresh_app(code), [site.channels for site in sites], run_config)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(code: Path, sites: dict[str, Site], case: str) -> None:
    channel, how, said = REFUSED[case]
    sites["north"].edit(channel, how)
    with pytest.raises(DataError) as caught:
        grid(code, sites["north"]).ask("query.statistics")
    message = str(caught.value)
    assert said in message
    assert message.startswith("this site")
    assert (channel in message) or case == "duplicates"
    assert "Next: " in message
    assert "4711" not in message


def test_leakage_between_train_and_validation(code: Path, sites: dict[str, Site]) -> None:
    north = sites["north"]
    taken = (north.folder / "validation" / "validation.csv").read_text().splitlines()[1]
    north.edit("train", lambda rows: rows.append(taken.split(",")))
    with pytest.raises(DataError, match="1 different rows stand in train and in validation"):
        grid(code, north).ask("query.statistics")


def test_leakage_is_told_where_no_schema_forbids_it(
    sites: dict[str, Site], capsys: pytest.CaptureFixture[str]
) -> None:
    north = sites["north"]
    north.edit("train", lambda rows: rows.append(rows[1]))
    train = (north.folder / "train" / "train.csv").read_text().splitlines()[1]
    north.edit("validation", lambda rows: rows.append(train.split(",")))
    grid(asset("client_code"), north).ask("query.statistics")
    assert "repeated train-rows-in-validation=1;" in capsys.readouterr().out


def trained(asked: InProcessGrid, summary: Summary) -> list[dict[str, Any]]:
    """Metrics of one round of training and of evaluation at every site."""
    strategy = make_strategy("fedavg", {}, min_sites=1, sites=2)
    config = ConfigRecord(summary.to_config())
    sent = strategy.configure_train(
        1, adapter("logistic-regression").initial(summary, {}), config, asked
    )
    replies = asked.send_and_receive(sent)
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    assert all(np.isfinite(a).all() for a in arrays.to_numpy_ndarrays())
    held = asked.send_and_receive(strategy.configure_evaluate(1, arrays, config, asked))
    held = sorted(held, key=lambda r: r.metadata.src_node_id)
    return [dict(r.content.metric_records["metrics"]) for r in held]


def test_handled(sites: dict[str, Site]) -> None:
    """One class, an all-missing feature, a constant one, repeated rows: trained all the same."""
    north, west = sites["north"], sites["west"]
    for channel in ("train", "validation"):
        north.edit(channel, lambda rows: only(rows, "1"))
        for site in (north, west):
            site.edit(channel, lambda rows: put(rows, RADIUS, "", EVERY))
            site.edit(channel, lambda rows: put(rows, "mean_area", "7", EVERY))
    west.edit("train", lambda rows: rows.extend(rows[1:]))
    asked = grid(asset("client_code"), north, west)
    summary = combine(asked.ask("query.statistics"))
    empty, constant = (summary.features.index(name) for name in (RADIUS, "mean_area"))
    assert (summary.mean[empty], summary.scale[empty]) == (0, 1)
    assert (summary.mean[constant], summary.scale[constant]) == (7, 1)
    of_north, of_west = trained(asked, summary)
    assert np.isnan(of_north["auc"])
    assert 0 <= of_west["auc"] <= 1


def test_a_category_at_one_site_only(sites: dict[str, Site]) -> None:
    from fedsm.learning.preparation import categories

    north, west = sites["north"], sites["west"]
    for channel in ("train", "validation"):
        for site, kind in ((north, "b"), (west, "a")):
            site.edit(channel, lambda rows: put(rows, RADIUS, "a", EVERY))
            site.edit(channel, lambda rows, kind=kind: put(rows, RADIUS, kind, slice(1, 9)))
    asked = grid(asset("client_code"), north, west, categories=RADIUS)
    summary = combine(asked.ask("query.statistics"))
    found = {
        site: categories.read(reply)
        for site, reply in asked.ask("query.categories", {"prepare-smallest": 5}).items()
    }
    assert all(found.values())
    summary = categories.merge(summary, {k: v for k, v in found.items() if v is not None})
    assert summary.vocabulary == (("a", "b"),)
    assert len(trained(asked, summary)) == 2


def test_one_class_everywhere(code: Path, sites: dict[str, Site]) -> None:
    for channel in ("train", "validation"):
        sites["north"].edit(channel, lambda rows: only(rows, "1"))
    with pytest.raises(DataError, match="have one class"):
        combine(grid(code, sites["north"]).ask("query.statistics"))


def test_other_columns_than_the_other_sites(sites: dict[str, Site]) -> None:
    for channel in ("train", "validation"):
        sites["west"].edit(channel, lambda rows: drop(rows, RADIUS))
    names = ("north", "east", "west")
    answers = grid(asset("client_code"), *(sites[n] for n in names)).ask("query.statistics")
    replies, faults = usable(dict(zip(names, answers.values(), strict=True)))
    assert set(replies) == {"north", "east"}
    assert "column 'mean_radius' is missing here and present elsewhere" in faults["west"]


def test_two_bad_sites_of_a_run(project: Project) -> None:
    """With real jobs: the owner's log has it all, the coordinator neither file nor value."""
    data = project.directory / "data"
    project.code()
    about = study("breast-cancer")
    (project.directory / "client_code" / "schema.json").write_bytes(
        (about.code / "schema.json").read_bytes()
    )
    spoilt = {"north": ("target", f"x{SECRET}"), "west": (RADIUS, f"-{SECRET}")}
    before = {path: path.read_bytes() for name in spoilt for path in (data / name).rglob("*.csv")}
    try:
        for name, (column, value) in spoilt.items():
            Site(data / name).edit("train", lambda r, c=column, v=value: put(r, c, v))
        federation = project.federation({"training.min_sites": 3})
        with pytest.raises(QuorumLost):
            federation.train()
        run = federation.attach()
        said = {name: site.errors for name, site in run.status().sites.items()}
        assert not said["east"]
        for name, (column, _) in spoilt.items():
            assert any("DataError at data.py" in error for error in said[name]), said
            log = "\n".join(line for _, line in run.logs(name, owner=True))
            assert f"{name}, train/train.csv: " in log
            assert f"column '{column}'" in log
            assert "4711" not in log
        assert "4711" not in run.journal.read_text()
    finally:
        for path, content in before.items():
            path.write_bytes(content)

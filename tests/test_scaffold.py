"""Writing a project: never over what is the user's own."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

import pytest

from fedsm import studies
from fedsm.agreements import AGREEMENTS
from fedsm.cli_options import DATASETS
from fedsm.config import load
from fedsm.datasets import fetch
from fedsm.errors import ConfigError, DataError
from fedsm.learning.channels import read_rows
from fedsm.learning.schema import FILE, AnyTable, Schema
from fedsm.learning.tables import category_names
from fedsm.scaffold import load_dataset, told, write

OWN = "the user's own"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FOLDERS = {"heart-disease": "heart", "heart-disease-flamby": "heart", "cms-fraud": "cms"}


def content(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_a_project_is_written_whole(tmp_path: Path) -> None:
    place = tmp_path / "a" / "study"
    write(place, "breast-cancer", None)
    for site in load(place / "federation.yaml").sites:
        for channel in site.channels:
            assert list((place / "data" / site.name / channel).iterdir())
    assert (place / "client_code" / "app.py").is_file()


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("own", ["federation.yaml", "data/north/rows.csv", "client_code/app.py"])
def test_the_users_files_are_left_alone(tmp_path: Path, own: str, replace: bool) -> None:
    (tmp_path / own).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / own).write_text(OWN)
    with pytest.raises(ConfigError, match="holds a federation already") as caught:
        write(tmp_path, "breast-cancer", None, replace=replace)
    assert own.partition("/")[0] in str(caught.value)
    assert "Next: " in str(caught.value)
    assert content(tmp_path) == {own: OWN.encode()}


def test_a_project_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    write(tmp_path, "breast-cancer", None)
    before = content(tmp_path)
    with pytest.raises(ConfigError):
        write(tmp_path, "breast-cancer", None, replace=True)
    assert content(tmp_path) == before


def test_what_was_written_to_be_replaced_is(tmp_path: Path) -> None:
    write(tmp_path, "breast-cancer", None, replace=True)
    (tmp_path / "data" / "more.csv").write_text("")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "kept").write_text("")
    write(tmp_path, "breast-cancer", None, replace=True)
    assert not (tmp_path / "data" / "more.csv").exists()
    assert (tmp_path / "runs" / "kept").exists()
    with pytest.raises(ConfigError):
        write(tmp_path, "breast-cancer", None)


def test_a_project_made_where_a_replaceable_one_was_is_the_users(tmp_path: Path) -> None:
    place = tmp_path / "study"
    write(place, "breast-cancer", None, replace=True)
    for name in ("federation.yaml", "data", "client_code"):
        (place / name).rename(tmp_path / name)
    write(place, "breast-cancer", None)
    with pytest.raises(ConfigError):
        write(place, "breast-cancer", None, replace=True)


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    place, rows = tmp_path / "study", tmp_path / "rows"
    write(place, "breast-cancer", None, replace=True)
    rows.mkdir()
    (rows / "test.csv").write_text(OWN)
    (place / "data").rename(tmp_path / "data")
    (place / "data").symlink_to(rows)
    write(place, "breast-cancer", None, replace=True)
    assert content(rows) == {"test.csv": OWN.encode()}


def test_a_file_is_no_place_for_a_project(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not a directory"):
        write(tmp_path / "file", "breast-cancer", None)


def rows(place: Path, name: str) -> tuple[AnyTable, AnyTable]:
    """A site's channels as its job reads them."""
    config = load(place / "federation.yaml").training.hyperparameters
    schema = Schema.read(place / "client_code" / FILE)
    train, validation = (
        read_rows(
            place / "data" / name / channel,
            label=str(config["label"]),
            categories=category_names(config),
            schema=schema,
        )
        for channel in ("train", "validation")
    )
    schema.check_repeats(train, validation, where=name)
    return train, validation


def test_every_study_is_a_data_set_and_is_offered() -> None:
    assert set(studies.STUDIES) == set(fetch.NAMES)
    for name in studies.STUDIES:
        about = studies.study(name)
        assert about.title
        assert (about.code / FILE).is_file()
        assert name in DATASETS
    with pytest.raises(ConfigError, match="there is no dataset 'none'") as caught:
        studies.study("none")
    assert "eicu" in str(caught.value)


@pytest.mark.parametrize("name", studies.STUDIES)
def test_each_study_is_written_with_rows_that_its_schema_allows(tmp_path: Path, name: str) -> None:
    if name in FOLDERS and not DATA.is_dir():
        pytest.skip("the data are not on this machine")
    data = DATA / FOLDERS[name] if name in FOLDERS else None
    made_up = 200 if name == "eicu" else None
    found = write(tmp_path, name, data, launch="pipeline", invited=True, made_up=made_up)
    config = load(tmp_path / "federation.yaml")
    assert config.training.limits
    assert config.training.report is not None
    # One site of eICU's stands for all: its columns are many.
    for site, tables in list(found.sites.items())[: 1 if name == "eicu" else None]:
        train, validation = rows(tmp_path, site)
        assert (len(train), len(validation)) == (len(tables.train), len(tables.validation))
        names = (*train.columns, *getattr(train, "categories", ()))
        assert set(names) == set(found.features)
        assert set(config.training.report.groups) <= set(names)
        assert (tmp_path / AGREEMENTS / site / "terms.yaml").is_file()
    lines = told(name, found, made_up=data is None)
    assert any("made up" in line for line in lines) == (name == "eicu")
    assert any(site in line for line in lines for site in found.sites)


def test_without_a_folder_the_published_files_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    if not DATA.is_dir():
        pytest.skip("the data are not on this machine")
    asked = []

    def served(url: str, timeout: float) -> BytesIO:
        asked.append(name := url.rpartition("/")[2])
        return BytesIO((DATA / "heart" / name).read_bytes())

    monkeypatch.setattr(urllib.request, "urlopen", served)
    assert len(load_dataset("heart-disease", None).sites) == len(asked) == 4


def test_without_network_the_files_to_get_and_the_option_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(url: str, timeout: float) -> BytesIO:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(DataError, match="no route to host") as caught:
        load_dataset("heart-disease", None)
    assert "processed.cleveland.data, processed.hungarian.data" in str(caught.value)
    assert str(caught.value).endswith("give the folder with --data")


def test_eicu_has_the_inputs_of_the_published_study() -> None:
    assert len(load_dataset("eicu", None, made_up=100).features) == 22_100


@pytest.mark.parametrize(
    ("name", "data", "stays"),
    [("breast-cancer", None, 9), ("eicu", "tables", 9), ("eicu", None, 0)],
)
def test_tables_are_made_up_for_eicu_alone(name: str, data: str | None, stays: int) -> None:
    with pytest.raises(ConfigError, match="--made-up"):
        load_dataset(name, Path(data) if data else None, made_up=stays)


def test_without_polars_eicu_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.startswith(("polars", "fedsm.datasets.eicu"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ConfigError, match=r"polars is not installed.*fedsm\[eicu\]"):
        load_dataset("eicu", None)

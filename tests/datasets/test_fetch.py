from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedsm.datasets import fetch as f
from fedsm.errors import ConfigError, DataError
from fedsm.learning.sparse_tables import read_npz
from fedsm.learning.tables import Table, read_csv

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FOLDERS = {"heart-disease": "heart", "heart-disease-flamby": "heart", "cms-fraud": "cms"}
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the data are not on this machine")


def published(url: str) -> bytes:
    name = url.rpartition("/")[2]
    return next(path for path in DATA.rglob(name)).read_bytes()


def no_network(url: str) -> bytes:
    raise OSError("no route to host")


@needs_data
@pytest.mark.parametrize("name", FOLDERS)
def test_published_files_are_fetched_checked_split_and_written(tmp_path: Path, name: str) -> None:
    dataset = f.prepare_data(name, tmp_path / "new", read=published)
    assert isinstance(dataset.test, Table)
    for site, tables in dataset.sites.items():
        for channel, table in (("train", tables.train), ("validation", tables.validation)):
            path = tmp_path / "new" / site / channel / f"{channel}.csv"
            assert len(read_csv([path], label=dataset.label)) == len(table)
    assert len(read_csv([tmp_path / "new" / "test.csv"], label=dataset.label)) == len(dataset.test)
    assert not list((tmp_path / "new").rglob(".*"))


@needs_data
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_read_without_network(tmp_path: Path, name: str) -> None:
    f.prepare_data(name, tmp_path, source=DATA / FOLDERS[name], read=no_network)
    assert (tmp_path / "test.csv").is_file()
    assert not (tmp_path / f.SOURCE).exists()


@needs_data
def test_files_that_are_there_are_not_fetched_again(tmp_path: Path) -> None:
    f.fetch("heart-disease", tmp_path, published)
    f.fetch("heart-disease", tmp_path, no_network)
    (tmp_path / "processed.va.data").write_text("1,2,3\n")
    with pytest.raises(DataError, match="cannot be fetched: no route to host"):
        f.fetch("heart-disease", tmp_path, no_network)


def test_another_file_under_the_same_name_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the published file"):
        f.fetch("cms-fraud", tmp_path, lambda url: b"other")
    assert not list(tmp_path.iterdir())


def test_without_network_the_way_round_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        f.prepare_data("cms-fraud", tmp_path, read=no_network)
    assert str(caught.value).endswith("and give the folder with --from")
    assert str(caught.value.where).startswith("https://raw.githubusercontent.com/aws-samples/")


def test_only_https_is_read() -> None:
    with pytest.raises(OSError, match="only https"):
        f.read_url("file:///etc/hostname")


def test_breast_cancer_needs_no_file(tmp_path: Path) -> None:
    f.prepare_data("breast-cancer", tmp_path, read=no_network)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "east",
        "north",
        "south",
        "test.csv",
        "west",
    ]


def test_eicu_is_not_anyones_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        f.prepare_data("eicu", tmp_path, read=no_network)
    for word in ("data-use agreement", "physionet.org", "--from", "--made-up"):
        assert word in str(caught.value)


def test_made_up_eicu_tables_become_channels(tmp_path: Path) -> None:
    dataset = f.prepare_data("eicu", tmp_path / "one", made_up=120)
    rows = sum(len(read_npz(path)) for path in (tmp_path / "one").rglob("*.npz"))
    assert rows == 120
    again = f.prepare_data("eicu", tmp_path / "two", source=tmp_path / "one" / f.SOURCE)
    assert again.features == dataset.features


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        f.prepare_data("breast-cancer", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("name", "made_up", "source"), [("cms-fraud", 5, None), ("eicu", 0, None), ("eicu", 5, DATA)]
)
def test_tables_are_made_up_for_eicu_alone(
    tmp_path: Path, name: str, made_up: int, source: Path | None
) -> None:
    with pytest.raises(ConfigError, match="can be made up for eicu only"):
        f.prepare_data(name, tmp_path / "new", made_up=made_up, source=source)


def test_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose from breast-cancer, heart-disease"):
        f.prepare_data("iris", tmp_path / "new")


@pytest.mark.parametrize(("made_up", "module"), [(5, "eicu_lookalike"), (None, "eicu")])
def test_without_polars_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: int | None, module: str
) -> None:
    monkeypatch.setitem(sys.modules, f"fedsm.datasets.{module}", None)
    source = tmp_path if made_up is None else None
    with pytest.raises(ConfigError, match=r"install fedsm\[eicu\]"):
        f.prepare_data("eicu", tmp_path / "new", made_up=made_up, source=source)

"""Writing a project: never over what is the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsm.config import load
from fedsm.errors import ConfigError
from fedsm.scaffold import write

OWN = "the user's own"


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

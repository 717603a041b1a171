"""The attacks on an owner's account, tried from the server's, in both launches."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from fedsm.local import down, up
from fedsm.names import Launch
from tests.attacks import (
    on_job_code,
    on_job_fields,
    on_parameters,
    on_people,
    on_pipelines,
    on_roles,
    on_storage,
)
from tests.attacks.agreed import OWNER, SERVER
from tests.attacks.catalogue import CATALOGUE, here, left_open
from tests.attacks.tries import ATTACKS, Verdict, verdict
from tests.attacks.world import World

ROOT = Path(__file__).resolve().parents[2]
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
MODULES = (
    on_job_code,
    on_job_fields,
    on_parameters,
    on_people,
    on_pipelines,
    on_roles,
    on_storage,
)
LAUNCHES: tuple[Launch, ...] = ("pipeline", "direct")

Observe = Callable[[Launch, str], Verdict]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Launch], World]]:
    """The federation of a launch, set up when it is asked for first."""
    places: list[Path] = []

    @cache
    def world(launch: Launch) -> World:
        place = tmp_path_factory.mktemp(launch)
        places.append(place)
        made = World(up(place, accounts=[SERVER, OWNER], stop_grace=1.0), place, launch)
        on_parameters.begin(made)
        return made

    yield world
    for place in places:
        down(place)


@pytest.fixture(scope="module")
def observe(worlds: Callable[[Launch], World]) -> Observe:
    """What comes of an attack; each is tried once."""
    return cache(lambda launch, name: verdict(worlds(launch), name))


@pytest.mark.parametrize(
    ("launch", "name"),
    [
        pytest.param(launch, attack.name, id=f"{launch}-{attack.name}")
        for launch in LAUNCHES
        for attack in here(launch)
    ],
)
def test_attack(observe: Observe, launch: Launch, name: str) -> None:
    (attack,) = (each for each in CATALOGUE if each.name == name)
    assert observe(launch, name) == attack.expected(launch)


@pytest.mark.parametrize("launch", LAUNCHES)
def test_what_the_server_may_do_it_can(worlds: Callable[[Launch], World], launch: Launch) -> None:
    """So it is not for a fault of the requests that the attacks are refused."""
    reason = on_parameters.allowed(worlds(launch))
    assert on_parameters.REACHED in reason


def test_an_approver_alone_can_have_code_run_that_nobody_published(
    worlds: Callable[[Launch], World],
) -> None:
    """No key of IAM bounds a pipeline's definition; docs/security.md says what that means."""
    reason = on_people.approve_without_publisher(worlds("pipeline"), on_job_code.SPY)
    assert "77,1" in reason


def test_every_attack_is_in_the_catalogue_once() -> None:
    names = [attack.name for attack in CATALOGUE]
    assert len(names) == len(set(names))
    assert set(ATTACKS) == {attack.name for attack in CATALOGUE if not attack.tests}


def test_the_pipeline_launch_refuses_every_attack() -> None:
    assert {attack.pipeline for attack in CATALOGUE} == {"refused"}


def test_the_direct_launch_leaves_open_what_the_documentation_lists(observe: Observe) -> None:
    section = SECURITY.partition("## What the direct launch does not refuse")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \|$", section.partition("\n## ")[0], re.M)
    seen = {a.name for a in here("direct") if observe("direct", a.name) == "open"}
    assert set(dict(rows)) == seen
    assert dict(rows) == left_open()


def test_every_test_that_is_named_exists() -> None:
    named = {test for attack in CATALOGUE for test in attack.covering}
    named |= set(re.findall(r"`(tests/\S+\.py::\S+)`", SECURITY))
    assert len(named) > 100
    missing = [test for test in sorted(named) if not _exists(test)]
    assert not missing


def test_every_attack_is_a_threat_of_the_documentation() -> None:
    told = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", SECURITY))
    assert {attack.name for attack in CATALOGUE} <= told


def _exists(test: str) -> bool:
    file, _, name = test.partition("::")
    function, _, parameter = name.partition("[")
    if parameter and function == "test_attack":
        launch, _, attack = parameter.removesuffix("]").partition("-")
        return attack in {each.name for each in here(launch)}  # type: ignore[arg-type]
    path = ROOT / file
    return path.is_file() and function in _functions(path)


@cache
def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}

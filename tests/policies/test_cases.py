"""Every policy document, judged case by case, and no part of any that no case needs."""

from __future__ import annotations

import os

import pytest

from tests.policies.cases import CASES
from tests.policies.judges import Case, alone, judge, oracle_judge
from tests.policies.mutants import mutants
from tests.policies.world import DOCUMENTS

ORACLE = os.environ.get("FEDSM_MINISTACK", "")


def cases_of(name: str) -> list[Case]:
    return [case for case in CASES if case.document == name]


def test_the_table_asks_every_document_in_both_directions() -> None:
    assert len({(c.document.partition("/")[2], c.action, c.resource, c.role) for c in CASES}) > 100
    assert {case.document for case in CASES} == set(DOCUMENTS)
    for name in DOCUMENTS:
        assert {case.allowed for case in cases_of(name)} == {True, False}, name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_cases(name: str) -> None:
    wrong = [case for case in cases_of(name) if judge(case, DOCUMENTS[name]) != case.allowed]
    assert not wrong


@pytest.mark.skipif(not ORACLE, reason="FEDSM_MINISTACK does not name an unpacked ministack wheel")
def test_an_independent_evaluator_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = oracle_judge(ORACLE, monkeypatch)
    wrong = [c for c in CASES if verdict(c, alone(c, DOCUMENTS[c.document])) != c.allowed]
    assert not wrong


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_part_is_needed_by_a_case(name: str) -> None:
    cases = cases_of(name)
    unnoticed = [
        part
        for part, mutant in mutants(DOCUMENTS[name])
        if all(judge(case, mutant) == case.allowed for case in cases)
    ]
    assert not unnoticed

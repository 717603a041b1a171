"""Trees from a site: what is taken, what a malformed one costs, and what may leave a job."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedsm.client.release import Release, shapes_of
from fedsm.errors import ConfigError
from fedsm.learning import checks, trees
from fedsm.learning.models import Local, adapter
from fedsm.learning.models.xgboost_trees import TreesClassifier
from fedsm.transport.flower import set_identity
from tests.learning.inprocess import ROOT
from tests.learning.test_trained_models import example

SUMMARY, TABLE = example(3)
MODEL = adapter("xgboost")
START = MODEL.initial(SUMMARY, {})


def grown(arrays: ArrayRecord, number: int) -> ArrayRecord:
    x, y = SUMMARY.transform(TABLE), SUMMARY.encode(TABLE.labels)
    return MODEL.fit(arrays, x, y, Local(SUMMARY, {"local-steps": 2}, {"server-round": number}))


ONE = grown(START, 1)
TWO = grown(ONE, 2)

Change = Callable[[dict[str, Any]], object]


def fault(arrays: ArrayRecord, *, whole: bool = True) -> str | None:
    return trees.fault(arrays, trees.Growth(ONE, whole))


def changed(change: Change) -> ArrayRecord:
    document = copy.deepcopy(trees.read(TWO))
    change(document)
    return trees.record(document)


def last(document: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = trees.booster(document)["trees"][-1]
    return tree


def raw(data: bytes) -> ArrayRecord:
    return ArrayRecord({trees.KEY: Array(np.frombuffer(data, dtype=np.uint8))})


def test_new_trees_and_the_whole_are_taken_and_join_to_the_same() -> None:
    new = trees.new(TWO, ONE)
    assert fault(TWO) is None
    assert fault(new, whole=False) is None
    joined = trees.record(trees.joined(trees.read(ONE), trees.read(new)))
    assert joined[trees.KEY].data == TWO[trees.KEY].data
    x = SUMMARY.transform(TABLE)
    np.testing.assert_array_equal(
        MODEL.predict(joined, x, SUMMARY, {}), MODEL.predict(TWO, x, SUMMARY, {})
    )


def test_two_sites_trees_add_up_with_their_classes() -> None:
    new = trees.read(trees.new(TWO, ONE))
    model = trees.joined(trees.joined(trees.read(START), new), new)
    assert trees.booster(model)["tree_info"] == [0, 1, 2] * 4
    x = SUMMARY.transform(TABLE)
    one = MODEL.predict(trees.record(trees.joined(trees.read(START), new)), x, SUMMARY, {})
    both = MODEL.predict(trees.record(model), x, SUMMARY, {})
    squared = one**2 / (one**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(both, squared, atol=1e-5)


def test_nothing_but_what_predictions_need_leaves_a_site() -> None:
    for tree in trees.booster(trees.read(TWO))["trees"]:
        assert not any(map(any, (tree[name] for name in trees.HIDDEN)))


def _drop(document: dict[str, Any]) -> None:
    trees.booster(document)["trees"].pop(0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: last(d)["left_children"].__setitem__(0, 10**6), "malformed"),
        (lambda d: last(d)["left_children"].__setitem__(0, 0), "malformed"),
        (lambda d: last(d)["right_children"].__setitem__(0, -1), "malformed"),
        (lambda d: last(d)["right_children"].__setitem__(0, last(d)["left_children"][0]), "malf"),
        (lambda d: last(d)["split_indices"].__setitem__(0, 3), "malformed"),
        (lambda d: last(d)["split_type"].__setitem__(0, 1), "malformed"),
        (lambda d: last(d)["split_conditions"].__setitem__(0, 1e300), "malformed"),
        (lambda d: last(d)["split_conditions"].__setitem__(0, 10**400), "malformed"),
        (lambda d: last(d)["split_conditions"].pop(), "malformed"),
        (lambda d: last(d)["categories"].append(1), "malformed"),
        (lambda d: last(d)["tree_param"].update(num_nodes="9999"), "malformed"),
        (lambda d: last(d).update(note="Jane Roe"), "malformed"),
        (lambda d: last(d).pop("parents"), "malformed"),
        (lambda d: trees.booster(d)["tree_info"].__setitem__(-1, 3), "no class"),
        (lambda d: trees.booster(d)["iteration_indptr"].__setitem__(-1, 99), "into rounds"),
        (lambda d: trees.booster(d)["iteration_indptr"].clear(), "into rounds"),
        (lambda d: trees.booster(d)["gbtree_model_param"].update(num_trees="1"), "number of"),
        (lambda d: trees.booster(d)["trees"][0]["split_conditions"].reverse(), "earlier rounds"),
        (_drop, "earlier rounds"),
        (lambda d: d["learner"]["objective"].update(name="reg:squarederror"), "objective"),
        (lambda d: d["learner"].pop("gradient_booster"), "not a model"),
    ],
)
def test_malformed_trees_are_refused(change: Change, said: str) -> None:
    found = fault(changed(change))
    assert found is not None
    assert said in found
    assert "Jane" not in found


def _param(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["learner"]["learner_model_param"]
    return found


def taken(arrays: ArrayRecord) -> dict[str, Any]:
    return trees.taken(arrays[trees.KEY].numpy().tobytes(), trees.read(START))


def refused_by_all(document: bytes) -> None:
    """Every reader of a sent model refuses this one."""
    arrays, x = raw(document), SUMMARY.transform(TABLE)
    for reader in (
        lambda: MODEL.predict(arrays, x, SUMMARY, {}),
        lambda: grown(arrays, 3),
        lambda: TreesClassifier().set(document, 3, SUMMARY.classes).predict_proba(x),
    ):
        with pytest.raises(ConfigError, match="trees are malformed"):
            reader()


READ = """
import sys
from tests.learning.test_trees import refused_by_all

refused_by_all(sys.stdin.buffer.read())
"""


@pytest.mark.parametrize("part", ["left_children", "split_indices"])
def test_a_sent_model_that_leads_out_of_memory_does_not_end_the_process(part: str) -> None:
    made = changed(lambda d: trees.booster(d)["trees"][0][part].__setitem__(0, 10**8))
    ended = subprocess.run(
        [sys.executable, "-c", READ],
        input=made[trees.KEY].numpy().tobytes(),
        capture_output=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]


@pytest.mark.parametrize("tree", [0, -1])
@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("left_children", 10**6),
        ("right_children", 2**31 - 1),
        ("left_children", -7),
        ("left_children", 0),
        ("split_indices", 3),
        ("split_indices", -1),
        ("parents", 1),
        ("default_left", 2),
    ],
)
def test_each_tree_of_a_sent_model_is_checked(tree: int, part: str, value: int) -> None:
    with pytest.raises(ConfigError, match="a tree is malformed"):
        taken(changed(lambda d: trees.booster(d)["trees"][tree][part].__setitem__(0, value)))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: last(d)["split_conditions"].pop(),
        lambda d: last(d)["tree_param"].update(num_feature="4"),
        lambda d: trees.booster(d)["tree_info"].__setitem__(-1, 3),
        lambda d: trees.booster(d)["tree_info"].pop(),
        lambda d: trees.booster(d)["iteration_indptr"].__setitem__(-1, 99),
        lambda d: trees.booster(d)["gbtree_model_param"].update(num_trees="99"),
        lambda d: trees.booster(d)["gbtree_model_param"].update(num_parallel_tree="2"),
        lambda d: _param(d).update(num_feature="2"),
        lambda d: _param(d).update(num_class="9"),
        lambda d: _param(d).update(base_score="[5E-1,5E-1]"),
        lambda d: _param(d).update(base_score="[5E-1,5E-1,2E0]"),
        lambda d: _param(d).update(base_score="[5E-1,5E-1,NaN]"),
        lambda d: _param(d).update(base_score=[0.5, 0.5, 0.5]),
        lambda d: d["learner"]["objective"].update(name="reg:squarederror"),
        lambda d: d["learner"].pop("gradient_booster"),
    ],
)
def test_a_sent_model_that_contradicts_itself_or_its_reader_is_refused(change: Change) -> None:
    with pytest.raises(ConfigError, match="trees are malformed"):
        taken(changed(change))


def test_nothing_but_its_trees_and_base_score_is_taken_of_a_sent_model() -> None:
    def change(document: dict[str, Any]) -> None:
        document["learner"]["attributes"]["note"] = "Jane Roe"
        document["learner"]["feature_names"] = ["a"]
        document["learner"]["gradient_booster"]["name"] = "dart"
        document["version"] = [0, 1, 2]
        last(document)["id"] = 10**6

    assert taken(changed(change)) == taken(TWO) == trees.read(TWO)


def test_a_sent_model_may_have_more_trees_than_a_reply_may_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trees, "MAX_TREES", 1)
    assert taken(TWO) == trees.read(TWO)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_sound_model_is_read_as_it_was_sent(classes: int) -> None:
    import xgboost

    summary, table = example(classes)
    x, y = summary.transform(table), summary.encode(table.labels)
    arrays = MODEL.initial(summary, {"class-weights": "balanced"})
    for number in range(2):
        local = Local(summary, {"local-steps": 2}, {"server-round": number})
        arrays = MODEL.fit(arrays, x, y, local)
    model = trees.read(arrays)
    joined = trees.record(trees.joined(model, trees.after(model, classes)))  # as of two sites
    for sent in (arrays, joined):
        plain = xgboost.Booster(model_file=bytearray(sent[trees.KEY].numpy().tobytes()))
        found = plain.predict(xgboost.DMatrix(np.asarray(x, np.float32)))
        given = MODEL.predict(sent, x, summary, {})
        np.testing.assert_array_equal(given if classes > 2 else given[:, 1], found)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[" * 100_000, b'{"learner":', b'{"a": NaN}', b"\xff\xfe", b"{}" * 3]
)
def test_what_is_no_model_is_refused(data: bytes) -> None:
    assert fault(raw(data)) == "the trees are not a model of XGBoost in JSON"


def test_sizes_and_kinds_are_looked_at_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trees, "MAX_GROWTH", 10)
    for odd in (raw(b"x" * 2000), ArrayRecord({trees.KEY: Array(np.zeros(3))})):
        assert "one vector of at most 10 bytes" in str(fault(odd, whole=False))
    assert "one array" in str(fault(ArrayRecord({"1": Array(np.zeros(3, np.uint8))})))


@given(st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(
    st.sampled_from(["learner", "trees", "gradient_booster", "model"]), s)))  # fmt: skip
def test_any_json_is_answered_by_a_sentence(document: Any) -> None:
    assert fault(raw(json.dumps(document).encode())) is not None


def test_a_reply_is_checked_as_trees_where_the_strategy_says_so() -> None:
    set_identity(1, 1)
    asked = Message(RecordDict(), dst_node_id=2, message_type="train")
    metrics = MetricRecord({"num-examples": 3})
    good = Message(RecordDict({"arrays": TWO, "metrics": metrics}), reply_to=asked)
    assert checks.fault(good, trees.Growth(ONE, whole=True), "num-examples") is None
    assert checks.fault(good, trees.Growth(ONE, whole=False), "num-examples") is None
    found = checks.fault(good, ONE, "num-examples")
    assert found is not None
    assert "shape" in found


@pytest.mark.parametrize(
    ("names", "kind", "arrays", "leaves"),
    [
        ({"trees"}, "train", TWO, True),
        ({"trees"}, "train", ONE, True),
        (set(), "train", TWO, False),
        (set(), "train", ONE, False),  # of the same length as what was sent
        ({"trees"}, "evaluate", TWO, False),
        ({"trees"}, "train", ArrayRecord({"0": Array(np.zeros(3))}), False),
        ({"trees"}, "train", ArrayRecord({"1": Array(np.zeros(3, np.uint8))}), False),
        ({"trees"}, "query.initial", START, True),
        (set(), "query.initial", START, False),
    ],
)
def test_trees_leave_only_where_the_terms_name_them(
    names: set[str], kind: str, arrays: ArrayRecord, leaves: bool
) -> None:
    terms = Release(frozenset({"num-examples", *names}), 10)
    asked = {} if kind == "query.initial" else shapes_of(ONE.items())
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 90})})
    found = terms.of(kind, asked, content)
    assert ("arrays" in found.content) is leaves
    if not leaves and asked:
        assert found.withheld.parts == ("trees",)

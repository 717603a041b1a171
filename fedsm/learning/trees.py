"""Boosted trees on the wire: XGBoost's JSON as bytes, read and checked without XGBoost.

A model grows from round to round, so Flower's XGBoost strategies carry it as one array ``"0"`` of
bytes. XGBoost trusts a model file: a child's number beyond the nodes would be memory beyond the
tree. So trees are checked here before anything else reads them, a site's by the coordinator and the
coordinator's by a site, and only they, not the rest of the sender's document, are put into the
receiver's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord

from fedsm.errors import ConfigError

KEY = "0"
"""Name of the array that holds the bytes: Flower's."""

NEW_TREES = "new-trees"
"""In a message's config: whether a site answers with its new trees alone."""

BAGGED = "bagged-sites"
"""In a message's config: how many sites grow trees in this round, whose values add up."""

MAX_GROWTH = 16 * 2**20
MAX_BYTES = 128 * 2**20
"""Bytes that one reply may add, and that a model may have."""

MAX_TREES = 10_000
"""Trees that one reply may add."""

_ROOT = 2**31 - 1
_LARGEST = 1e30

_INTEGERS = ("left_children", "right_children", "parents", "split_indices", "split_type")
_REALS = ("split_conditions", *(HIDDEN := ("base_weights", "loss_changes", "sum_hessian")))
_EMPTY = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
_PARTS = {*_INTEGERS, *_REALS, *_EMPTY, "default_left", "id", "tree_param"}

Document = dict[str, Any]
"""XGBoost's JSON, read."""

_UNREADABLE = (ValueError, EOFError, TypeError, LookupError, AttributeError, RecursionError)
_NO_MODEL = "the trees are not a model of XGBoost in JSON"


@dataclass(frozen=True)
class Growth:
    """What a reply of trees must be like.

    Attributes
    ----------
    model : ArrayRecord
        The global model.
    whole : bool
        Whether the reply begins with the global model's trees, or holds the new ones alone.
    """

    model: ArrayRecord
    whole: bool


def record(document: Document) -> ArrayRecord:
    """A model as the array that moves."""
    text = json.dumps(document, separators=(",", ":")).encode()
    return ArrayRecord({KEY: Array(np.frombuffer(text, dtype=np.uint8))})


def read(arrays: ArrayRecord) -> Document:
    """The model of an array that was checked or made here."""
    found: Document = json.loads(arrays[KEY].numpy().tobytes())
    return found


def is_bytes(shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> bool:
    """Whether arrays are one of bytes, which may hold trees or anything else."""
    return len(shapes) == 1 and all(
        dtype == "uint8" and len(shape) == 1 for dtype, shape in shapes.values()
    )


def booster(document: Document) -> Document:
    """The part of a model that has the trees."""
    found: Document = document["learner"]["gradient_booster"]["model"]
    return found


def after(document: Document, first: int) -> Document:
    """The model with the trees from number ``first`` on alone."""
    model = booster(document)
    trees = [tree | {"id": i} for i, tree in enumerate(model["trees"][first:])]
    cuts = [cut - first for cut in model["iteration_indptr"] if cut >= first]
    return _with(document, trees, model["tree_info"][first:], cuts)


def new(arrays: ArrayRecord, before: ArrayRecord) -> ArrayRecord:
    """The trees of a model that one before it had not."""
    return record(after(read(arrays), len(booster(read(before))["trees"])))


def joined(document: Document, more: Document) -> Document:
    """The model with another's trees appended; all else is the first's."""
    model, new = booster(document), booster(more)
    count = len(model["trees"])
    trees = [*model["trees"], *(t | {"id": count + i} for i, t in enumerate(new["trees"]))]
    cuts = [*model["iteration_indptr"], *(count + cut for cut in new["iteration_indptr"][1:])]
    return _with(document, trees, [*model["tree_info"], *new["tree_info"]], cuts)


def without_statistics(document: Document) -> Document:
    """The model without what predictions do not need: each node's weight of rows, gain and value.

    The sum of Hessians in a node is close to a count of a site's rows.
    """
    model = booster(document)
    trees = [
        tree | {name: [0.0] * len(tree["left_children"]) for name in HIDDEN}
        for tree in model["trees"]
    ]
    return _with(document, trees, model["tree_info"], model["iteration_indptr"])


def _with(document: Document, trees: list[Any], info: list[int], cuts: list[int]) -> Document:
    model = booster(document) | {"trees": trees, "tree_info": info, "iteration_indptr": cuts}
    sizes = model["gbtree_model_param"] | {"num_trees": str(len(trees))}
    gradient = document["learner"]["gradient_booster"] | {
        "model": model | {"gbtree_model_param": sizes}
    }
    return document | {"learner": document["learner"] | {"gradient_booster": gradient}}


def fault(arrays: ArrayRecord, expected: Growth) -> str | None:
    """Say what keeps a reply's trees from being taken; None where nothing does.

    The sentence holds no value of the reply.
    """
    if list(arrays) != [KEY]:
        return f"trees are one array {KEY!r}"
    array = arrays[KEY]
    before = len(expected.model[KEY].data)
    most = min(MAX_BYTES, MAX_GROWTH + (before if expected.whole else 0))
    if array.dtype != "uint8" or len(array.shape) != 1 or len(array.data) > most + 1024:
        return f"trees are one vector of at most {most} bytes"
    try:
        values = array.numpy()
        if values.shape != tuple(array.shape) or str(values.dtype) != "uint8":
            return "the array of trees does not hold what its header says"
        found = json.loads(values.tobytes(), parse_constant=_no_number)
        return next(_faults(found, read(expected.model), expected.whole, MAX_TREES), None)
    except _UNREADABLE:
        return _NO_MODEL


def taken(text: bytes, own: Document) -> Document:
    """A document of one's own, without trees, with the trees and the base score of another.

    Raises
    ------
    ConfigError
        The trees are malformed, or of a model with other inputs, classes or objective.
    """
    try:
        found = json.loads(text, parse_constant=_no_number)
        own = _with_base_score(own, found["learner"]["learner_model_param"]["base_score"])
        why = next(_faults(found, own, False, math.inf), None)
    except _UNREADABLE:
        why = _NO_MODEL
    if why is not None:
        raise ConfigError(
            f"the model's trees are malformed: {why}",
            where="training.model",
            action="ask the coordinator which model it sent",
        )
    return joined(own, found)


def _with_base_score(document: Document, text: str) -> Document:
    """The model with a base score from elsewhere: the shares of the classes, as a JSON list."""
    learner = document["learner"]
    sizes, scores = learner["learner_model_param"], json.loads(text)
    if len(scores) != len(json.loads(sizes["base_score"])) or not all(0 < v < 1 for v in scores):
        raise ValueError("base score")
    return document | {"learner": learner | {"learner_model_param": sizes | {"base_score": text}}}


def _no_number(name: str) -> float:
    raise ValueError(name)


def _faults(found: Document, known: Document, whole: bool, most: float) -> Iterator[str]:
    own, model = booster(known), booster(found)
    for part in ("learner_model_param", "objective"):
        if found["learner"][part] != known["learner"][part]:
            yield "the trees are of a model with other inputs, classes or objective"
    trees, info, cuts = model["trees"], model["tree_info"], model["iteration_indptr"]
    if not (type(trees) is type(info) is type(cuts) is list):
        yield "the trees are no list"
    first = len(own["trees"]) if whole else 0
    if whole and (trees[:first] != own["trees"] or info[:first] != own["tree_info"]):
        yield "the trees of earlier rounds were changed"
    if not first <= len(trees) <= first + most:
        yield f"there are fewer trees than before, or more than {most} new ones"
    if model["gbtree_model_param"] != own["gbtree_model_param"] | {"num_trees": str(len(trees))}:
        yield "the number of trees is not what the model says"
    shape = known["learner"]["learner_model_param"]
    classes = max(int(shape["num_class"]), 1)
    if len(info) != len(trees) or not (_whole(info) and all(0 <= at < classes for at in info)):
        yield "a tree is of no class of the model"
    rising = _whole(cuts) and all(a < b for a, b in pairwise(cuts))
    if not cuts or not rising or cuts[0] != 0 or cuts[-1] != len(trees):
        yield "the trees are not parted into rounds"
    for tree in trees[first:]:
        if not _sound(tree, shape["num_feature"]):
            yield "a tree is malformed"


def _sound(tree: Any, features: str) -> bool:
    """Whether XGBoost can walk a tree: each node but the root is the child of one before it."""
    if set(tree) != _PARTS or type(tree["id"]) is not int:
        return False
    n = len(tree["left_children"])
    sizes = {"num_deleted": "0", "num_feature": features, "size_leaf_vector": "1"}
    if tree["tree_param"] != sizes | {"num_nodes": str(n)} or not 0 < n < 2**16:
        return False
    if any(tree[name] != [] for name in _EMPTY):
        return False
    if not all(_whole(tree[k]) and len(tree[k]) == n for k in (*_INTEGERS, "default_left")):
        return False
    if not all(_real(tree[k]) and len(tree[k]) == n for k in _REALS):
        return False
    split = all(0 <= at < int(features) for at in tree["split_indices"])
    if not split or any(tree["split_type"]) or not set(tree["default_left"]) <= {0, 1}:
        return False
    parents = [_ROOT, *[-1] * (n - 1)]
    for node, pair in enumerate(zip(tree["left_children"], tree["right_children"], strict=True)):
        if pair == (-1, -1):
            continue
        for child in pair:
            if not node < child < n or parents[child] != -1:
                return False
            parents[child] = node
    return bool(parents == tree["parents"])


def _whole(values: Any) -> bool:
    return _numbers(values, {int}, 2**31 - 1)


def _real(values: Any) -> bool:
    return _numbers(values, {int, float}, _LARGEST)


def _numbers(values: Any, types: set[type], most: float) -> bool:
    if type(values) is not list or not set(map(type, values)) <= types:
        return False
    return not values or -most <= min(values) <= max(values) <= most

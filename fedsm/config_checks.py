"""Faults between the fields of a ``federation.yaml``.

They are read from the raw mapping, so that they are found also where single fields are wrong.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from fedsm.contract import CODE_CHANNEL
from fedsm.fields import Limit

TREE_STRATEGIES = ("fedxgb-bagging", "fedxgb-cyclic")

Fault = tuple[tuple[int | str, ...], str]
"""Path of a field, and what is wrong with it."""


def cross_faults(raw: Mapping[str, Any]) -> list[Fault]:
    """All faults between fields."""
    faults: list[Fault] = []
    listed = raw.get("sites")
    sites = [
        (i, site)
        for i, site in enumerate(listed if isinstance(listed, list | tuple) else ())
        if isinstance(site, Mapping)
    ]
    for i, site in sites:
        faults += [(("sites", i, field), text) for field, text in _site_faults(site)]
    for field, why in (
        ("name", "each site has its own"),
        ("execution_role_arn", "STS proves the role, not the job, so no two sites may share one"),
    ):
        first: dict[str, str] = {}
        for i, site in sites:
            value = site.get(field)
            if isinstance(value, str):
                if value in first:
                    faults.append((("sites", i, field), f"{value} is taken already; {why}"))
                first[value] = value
    training, coordinator = raw.get("training"), raw.get("coordinator")
    if isinstance(training, Mapping):
        found = _training_faults(training)
        faults += [(("training", field), text) for field, text in found]
    if raw.get("cloud") == "aws" and isinstance(coordinator, Mapping):
        faults += [(("coordinator", field), text) for field, text in _aws_faults(coordinator)]
        if raw.get("launch") != "direct":
            faults += [(("coordinator", "address"), text) for text in _unallowed(coordinator)]
    return faults


def _site_faults(site: Mapping[str, Any]) -> list[tuple[str, str]]:
    faults = []
    for field in ("role_arn", "execution_role_arn"):
        parts = str(site.get(field, "")).split(":")
        if len(parts) == 6 and parts[4] != str(site.get("account_id")):
            faults.append((field, f"is in account {parts[4]}, not in the site's"))
    if (site.get("image") is None) == (site.get("framework") is None):
        faults.append(("image", "give either image or framework"))
    if bool(site.get("subnets")) != bool(site.get("security_groups")):
        faults.append(("subnets", "subnets and security_groups go together"))
    for field, prefix in (("environment", "FEDSM_"), ("tags", "fedsm:")):
        values = site.get(field)
        if isinstance(values, Mapping) and any(str(key).startswith(prefix) for key in values):
            faults.append((field, f"keys that start with {prefix} are fedsm's own"))
    if isinstance(site.get("channels"), Mapping) and CODE_CHANNEL in site["channels"]:
        faults.append(("channels", f"{CODE_CHANNEL} is fedsm's own"))
    return faults


def _training_faults(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    faults = []
    model = training.get("model")
    if isinstance(model, str) and training.get("prepare") is None:
        faults.append(("prepare", f"model: {model} needs prepare: standardize"))
    if training.get("test") is not None and model is None:
        faults.append(
            (
                "test",
                "test rows need a model to predict with: give model and prepare, or leave "
                "test out and pass evaluate_fn from Python",
            )
        )
    return faults + _strategy_faults(training) + _limit_faults(training) + _report_faults(training)


def _report_faults(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Groups that the report cannot look at."""
    values, report = training.get("hyperparameters"), training.get("report")
    named = values.get("categories") if isinstance(values, Mapping) else None
    groups = report.get("groups") if isinstance(report, Mapping) else None
    if not isinstance(named, str) or not isinstance(groups, Mapping):
        return []
    categories = {name.strip() for name in named.split(",")}
    return [
        (f"report.groups.{name}", f"{name} holds categories, which have no bands: write []")
        for name, edges in groups.items()
        if edges and name in categories
    ]


def _strategy_faults(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Strategies and models that do not fit each other."""
    model, strategy = training.get("model"), training.get("strategy", "fedavg")
    options = training.get("options")
    of_trees = strategy in TREE_STRATEGIES
    faults = []
    if strategy == "exact" and model not in (None, "logistic-regression"):
        faults.append(("strategy", f"exact solves model logistic-regression only, not {model}"))
    if of_trees and model not in (None, "xgboost", "custom"):
        faults.append(("strategy", f"{strategy} joins trees: it needs model xgboost, not {model}"))
    if model == "xgboost" and not of_trees:
        known = ", ".join(TREE_STRATEGIES)
        faults.append(("strategy", f"model xgboost needs one of {known}: trees have no average"))
    if strategy == "scaffold" and model in ("sgd-classifier", "mlp-classifier"):
        faults.append(("strategy", f"{model} takes no corrected steps, which scaffold needs"))
    proximal = strategy == "fedprox" or (
        isinstance(options, Mapping) and options.get("strategy") == "fedprox"
    )
    if proximal and model in ("sgd-classifier", "mlp-classifier"):
        faults.append(("strategy", f"{model} has no proximal term, which fedprox needs"))
    return faults


def _limit_faults(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Values outside what the owners are asked to allow: their pipelines or jobs refuse them."""
    values, limits = training.get("hyperparameters") or {}, training.get("limits") or {}
    if not isinstance(values, Mapping) or not isinstance(limits, Mapping):
        return []
    faults = []
    for name, raw in limits.items():
        if name not in values:
            faults.append((f"limits.{name}", "there is no hyperparameter of that name"))
            continue
        try:
            allowed = Limit.model_validate(raw).allows(values[name])
        except (ValueError, TypeError):  # reported where the fields are checked
            continue
        if not allowed:
            faults.append(
                (f"hyperparameters.{name}", f"{values[name]!r} is outside training.limits.{name}")
            )
    return faults


def _aws_faults(coordinator: Mapping[str, Any]) -> list[tuple[str, str]]:
    faults = []
    if coordinator.get("port") == 0:
        faults.append(("port", "give the port that the security groups allow"))
    address = coordinator.get("address", "auto")
    if isinstance(address, str) and _is_unreachable(address):
        faults.append(
            (
                "address",
                f"no job can reach {address}; give the coordinator's private address inside the "
                "peered VPC, or auto",
            )
        )
    if address == "auto" and not coordinator.get("vpc_cidrs"):
        faults.append(("vpc_cidrs", "needed by address: auto"))
    return faults


def _unallowed(coordinator: Mapping[str, Any]) -> list[str]:
    """Why the jobs of the owners' pipelines would not dial the coordinator."""
    address, cidrs = coordinator.get("address", "auto"), coordinator.get("vpc_cidrs")
    if address == "auto" or not isinstance(address, str) or not isinstance(cidrs, list | tuple):
        return []
    try:
        networks = [ipaddress.ip_network(cidr) for cidr in cidrs]
        inside = any(ipaddress.ip_address(address) in network for network in networks)
    except ValueError:  # a name, or a range that is reported where the fields are checked
        inside = False
    if inside or not cidrs:
        return []
    return [f"jobs dial only into vpc_cidrs, where {address} is not; give an address in there"]


def _is_unreachable(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified or address.is_link_local

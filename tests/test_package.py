"""The house: who may import whom, what is public, and how fast it loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedsm
from fedsm.bundle import RUNTIME

ROOT = Path(fedsm.__file__).parent

# Each room may import the rooms of its own level and below.
LEVELS = [
    {"cli", "__main__"},
    {
        "progress",
        "report",
        "report_tables",
        "scaffold",
        "cli_options",
        "data_cli",
        "evidence_cli",
        "local_cli",
        "owner_cli",
        "site_cli",
    },
    {"federation"},
    {"run"},
    {"coordinator", "provision", "site_folder", "uploads"},
    {"training", "execute", "evaluation", "reporting", "clouds", "hooks", "launch", "simulation"},
    {"aws", "tracking", "local", "client", "datasets", "exchange", "evidence", "preparing", "best"},
    {"learning", "transport"},
    {"onboarding", "agreements", "federation_file", "terms_template"},
    {"plan", "policies", "address", "state", "pipeline"},
    {"request", "agreement", "bundle_diff"},
    {"bundle", "config", "images"},
    {"training_config"},
    {"config_checks", "assets", "fields", "studies"},
    {"contract", "events", "metric_names", "names", "interrupts"},
    {"errors"},
]
LEVEL = {room: i for i, rooms in enumerate(LEVELS) for room in rooms}

OUTSIDE = {
    "boto3": {
        "aws",
        "local",
        "tracking",
        "client",
        "clouds",
        "provision",
        "execute",
        "site_folder",
        "uploads",
    },
    "botocore": {"aws", "local", "tracking", "client", "provision"},
    "flwr": {
        "best",
        "transport",
        "training",
        "learning",
        "client",
        "coordinator",
        "evaluation",
        "exchange",
        "hooks",
        "reporting",
        "simulation",
    },
    "moto": {"local"},
    "polars": {"datasets"},
    "scipy": {"datasets", "learning"},
    "imblearn": {"datasets"},
    "fairlearn": {"learning"},
    "torch": {"learning"},
    "xgboost": {"learning"},
    "typer": {
        "cli",
        "cli_options",
        "data_cli",
        "evidence_cli",
        "local_cli",
        "owner_cli",
        "site_cli",
    },
    "rich": {"cli", "cli_options", "progress", "report", "report_tables"},
    "pydantic": {"config", "training_config", "fields", "agreement"},
    "yaml": {
        "config",
        "scaffold",
        "agreement",
        "onboarding",
        "federation_file",
        "site_folder",
        "studies",
    },
    "grpc": {"transport"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] not in ("__init__", "_assets"):
            yield parts[0], path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "fedsm":
                yield from (f"fedsm.{alias.name}" for alias in node.names)
            else:
                yield node.module


def type_only(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom) and inner.module:
                    found.add(inner.module)
    return found


def test_imports_run_downwards() -> None:
    wrong = []
    for room, path in modules():
        assert room in LEVEL, f"{room} has no level: say where it stands"
        for name in set(imports(path)) - type_only(path):
            parts = name.split(".")
            if parts[0] == "fedsm" and len(parts) > 1 and parts[1] != "__version__":
                target = parts[1]
                if target != room and LEVEL[target] < LEVEL[room]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_a_bundle_holds_all_that_a_job_imports_of_fedsm() -> None:
    held = {name.removesuffix(".py") for name in RUNTIME}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}, which is not in bundle.RUNTIME"
        for room, path in modules()
        if room in held
        for name in set(imports(path)) - type_only(path)
        if name.startswith("fedsm.") and name.split(".")[1] not in held
    ]
    assert not wrong, "\n".join(wrong)


def test_each_library_stands_behind_its_door() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for room, path in modules()
        for name in imports(path)
        if (doors := OUTSIDE.get(name.split(".")[0])) is not None and room not in doors
    ]
    assert not wrong


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize(
    "module", ["fedsm.client.runtime", "fedsm.transport.session", "fedsm.learning.models"]
)
def test_a_job_imports_none_of_the_coordinators_extras(module: str) -> None:
    heavy = ("moto", "typer", "rich", "pydantic", "yaml", "sagemaker", "boto3", "werkzeug")
    # What Flower itself imports is not ours to choose.
    code = (
        "import sys, flwr.app, flwr.clientapp, flwr.serverapp.strategy; base = set(sys.modules)\n"
        f"import {module}\n"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - base}))"
    )
    assert not set(heavy) & set(run(code).split())


def test_public_names() -> None:
    assert fedsm.__all__ == ["Federation", "FedsmError", "Run", "__version__"]
    assert sorted(dir(fedsm)) == sorted(fedsm.__all__)
    for name in fedsm.__all__:
        assert getattr(fedsm, name) is not None
    with pytest.raises(AttributeError):
        _ = fedsm.nothing


def test_importing_fedsm_is_light() -> None:
    loaded = run("import sys, fedsm; print(*sorted(m.split('.')[0] for m in sys.modules))")
    assert not {"flwr", "boto3", "sklearn", "grpc", "pydantic"} & set(loaded.split())


@pytest.mark.parametrize("module", ["fedsm.federation", "fedsm.client.runtime"])
def test_scikit_learn_is_loaded_by_what_trains_only(module: str) -> None:
    loaded = run(f"import sys, {module}; print(*sorted(m.split('.')[0] for m in sys.modules))")
    assert not {"sklearn", "pandas", "torch", "xgboost", "polars"} & set(loaded.split())

"""Script mode: run ``sagemaker_program`` as SageMaker's training toolkit does.

A program by itself, of the standard library but for a source archive on S3. It keeps to what
``sagemaker-training`` 5.1.4 gives a script in File mode on one host (environment, arguments,
working directory, failure file) and differs in one thing: SIGTERM reaches the script, which the
toolkit never forwards.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
LOG_LEVEL = 20
_ENTRY_POINT = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*(/[A-Za-z0-9._+-]+)*")
_TOOLKIT_KEYS = {
    "_tuning_objective_metric",
    "sagemaker_container_log_level",
    "sagemaker_job_name",
    "sagemaker_program",
    "sagemaker_region",
    "sagemaker_s3_output",
    "sagemaker_submit_directory",
}


class ScriptError(Exception):
    """The script cannot be run or failed; the text goes to ``output/failure``."""


def decode(value: str) -> Any:
    """A hyperparameter's value: JSON where it is JSON, else as it stands."""
    try:
        return json.loads(value)
    except (ValueError, TypeError):
        return value


def encode(value: Any) -> str:
    """A value as an environment variable holds it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def arguments(hyperparameters: dict[str, Any]) -> list[str]:
    """Hyperparameters as the script's arguments, sorted by name."""
    result: list[str] = []
    for name in sorted(hyperparameters):
        value = hyperparameters[name]
        if isinstance(value, dict):
            value = ",".join(f"{k}={v}" for k, v in sorted(value.items()))
        result += [f"--{name}" if len(name) > 1 else f"-{name}"]
        result += ["" if value is None else str(value)]
    return result


def describe(base: Path, raw: dict[str, str], resources: Any, channels: Any) -> dict[str, Any]:
    """The training environment, under the toolkit's names.

    Parameters
    ----------
    raw : dict
        ``hyperparameters.json``.
    resources, channels : dict
        ``resourceconfig.json`` and ``inputdataconfig.json``.
    """
    everything = {name: decode(value) for name, value in raw.items()}
    own = {
        name: value
        for name, value in everything.items()
        if not name.startswith("sagemaker_") and name not in _TOOLKIT_KEYS
    }
    framework = {n: v for n, v in everything.items() if n not in own and n not in _TOOLKIT_KEYS}
    program = os.environ.get("SAGEMAKER_PROGRAM") or everything.get("sagemaker_program")
    groups = resources.get("instance_groups", [])
    group = resources.get("current_group_name", "homogeneousCluster")
    own_group: list[str] = next(
        (g["hosts"] for g in groups if g["instance_group_name"] == group), []
    )
    spread: list[str] = framework.get("sagemaker_distribution_instance_groups", [])
    hosts = resources["hosts"]
    return {
        "additional_framework_parameters": framework,
        "channel_input_dirs": {name: str(base / "input/data" / name) for name in channels},
        "current_host": resources["current_host"],
        "current_instance_group": group,
        "current_instance_group_hosts": own_group,
        "current_instance_type": resources.get("current_instance_type", "local"),
        "distribution_hosts": [
            h for g in groups if g["instance_group_name"] in spread for h in g["hosts"]
        ],
        "distribution_instance_groups": spread,
        "framework_module": None,
        "hosts": hosts,
        "hyperparameters": own,
        "input_config_dir": str(base / "input/config"),
        "input_data_config": channels,
        "input_dir": str(base / "input"),
        "instance_groups": [g["instance_group_name"] for g in groups],
        "instance_groups_dict": {g["instance_group_name"]: g for g in groups},
        "is_hetero": len(groups) > 1,
        "is_master": resources["current_host"] == sorted(hosts)[0],
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": os.environ.get("TRAINING_JOB_NAME"),
        "log_level": everything.get("sagemaker_container_log_level", LOG_LEVEL),
        "master_hostname": sorted(hosts)[0],
        "model_dir": str(base / "model"),
        "module_dir": str(everything.get("sagemaker_submit_directory", base / "code")),
        "module_name": str(program).removesuffix(".py"),
        "network_interface_name": resources.get("network_interface_name", "eth0"),
        "num_cpus": os.cpu_count(),
        "num_gpus": 0,
        "num_neurons": 0,
        "output_data_dir": str(base / "output/data"),
        "output_dir": str(base / "output"),
        "output_intermediate_dir": str(base / "output/intermediate"),
        "resource_config": resources,
        "topology": [],
        "user_entry_point": program,
    }


_VARIABLES = (
    "current_host",
    "current_instance_group",
    "current_instance_group_hosts",
    "current_instance_type",
    "distribution_instance_groups",
    "framework_module",
    "hosts",
    "input_config_dir",
    "input_data_config",
    "input_dir",
    "instance_groups",
    "instance_groups_dict",
    "is_hetero",
    "log_level",
    "model_dir",
    "module_dir",
    "module_name",
    "network_interface_name",
    "num_cpus",
    "num_gpus",
    "num_neurons",
    "output_data_dir",
    "output_dir",
    "output_intermediate_dir",
    "resource_config",
    "user_entry_point",
)


def variables(training: dict[str, Any]) -> dict[str, str]:
    """The ``SM_*`` variables of a training environment."""
    values = {name: training[name] for name in _VARIABLES}
    values["hps"] = training["hyperparameters"]
    values["framework_params"] = training["additional_framework_parameters"]
    values["channels"] = sorted(training["channel_input_dirs"])
    values["training_env"] = training
    values["user_args"] = arguments(training["hyperparameters"])
    for name, path in training["channel_input_dirs"].items():
        values[f"channel_{name}"] = path
    for name, value in training["hyperparameters"].items():
        values[f"hp_{name}"] = value
    return {f"SM_{name.upper()}": encode(value) for name, value in values.items()}


def fetch(source: str, code: Path) -> None:
    """Put the script's source into ``code``, unless something is there already."""
    code.mkdir(parents=True, exist_ok=True)
    if any(code.iterdir()) or Path(source) == code:
        return
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(source)
        if source.startswith("s3://"):
            import boto3

            bucket, _, key = source[5:].partition("/")
            archive = Path(directory, "source.tar.gz")
            boto3.client("s3").download_file(bucket, key, str(archive))
        if archive.is_dir():
            shutil.copytree(archive, code, dirs_exist_ok=True)
        elif archive.exists() and tarfile.is_tarfile(archive):
            with tarfile.open(archive, "r:gz") as tar:
                tar.extractall(code, filter="data")
        else:
            shutil.copy2(archive, code)


def command(program: Any, code: Path, args: list[str]) -> list[str]:
    """How the entry point is started.

    Raises
    ------
    ScriptError
        Its name is not a plain path inside the source, or the source is a package.
    """
    name = program if isinstance(program, str) else ""
    if not _ENTRY_POINT.fullmatch(name) or {".", ".."} & set(name.split("/")):
        raise ScriptError(f"The training entry point {program!r} is not a path in the source")
    if name.endswith(".sh") or not name.endswith(".py"):
        (code / name).chmod(0o777)
        return ["/bin/sh", "-c", f"./{name} {shlex.join(args)}"]
    if (code / "setup.py").exists():
        raise ScriptError("the local cloud does not model a source with setup.py")
    return [sys.executable, "--", name, *args]


def run(argv: list[str], code: Path, environment: dict[str, str]) -> None:
    """Run the script to its end, handing SIGTERM on to it.

    Raises
    ------
    ScriptError
        It ended with another code than 0.
    """
    process = subprocess.Popen(argv, cwd=code, env=environment)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    returned = process.wait()
    if returned:
        extra = ""
        if returned == 137:
            extra = '\nExtraInfo "OutOfMemory: Process killed by SIGKILL (signal 9)"'
        raise ScriptError(
            f'ExecuteUserScriptError:\nExitCode {returned}\nErrorMessage ""{extra}\n'
            f'Command "{" ".join(argv)}"'
        )


def main() -> int:
    """Run the job's script; 0, or 1 with the reason in ``output/failure``."""
    code, config = BASE / "code", BASE / "input/config"
    try:
        raw, resources, channels = (
            json.loads((config / f"{name}.json").read_text())
            for name in ("hyperparameters", "resourceconfig", "inputdataconfig")
        )
        training = describe(BASE, raw, resources, channels)
        fetch(training["module_dir"], code)
        args = arguments(training["hyperparameters"])
        argv = command(training["user_entry_point"], code, args)
        requirements = code / "requirements.txt"
        if argv[0] == sys.executable and requirements.exists():
            install = [sys.executable, "-m", "pip", "install", "-r", "requirements.txt"]
            if subprocess.run(install, cwd=code, check=False).returncode:
                raise ScriptError("InstallRequirementsError: requirements.txt cannot be installed")
        path = os.pathsep.join([str(code), *sys.path])
        run(argv, code, {**os.environ, **variables(training), "PYTHONPATH": path})
    except Exception as error:
        failure = BASE / "output/failure"
        if not failure.exists():
            failure.write_text(str(error))
        print(error, file=sys.stderr)
        return 1
    (BASE / "output/success").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The SageMaker training contract: where a job finds its input and leaves its output.

Holds under our bootstrap, which sets no ``SM_*`` variables, and under script mode, which does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedsm.contract import CODE_CHANNEL
from fedsm.errors import ConfigError

Value = bool | int | float | str

_FAILURE_LIMIT = 1024  # characters that SageMaker shows as FailureReason


@dataclass(frozen=True)
class TrainingContract:
    """One job's folders and inputs.

    Attributes
    ----------
    base : Path
        ``SAGEMAKER_BASE_DIR``, or ``/opt/ml``.
    channels : mapping of str to Path
        Data channels by name, without the one that holds the code.
    hyperparameters : mapping of str to bool, int, float or str
        Flower's ``run_config``. A value that is JSON of such a type is decoded; any other text,
        JSON lists and objects included, stays text. SageMaker's own (``sagemaker_*``) are left out.
    model_dir : Path
        Becomes ``model.tar.gz``.
    device : str
        ``gpu`` or ``cpu``.
    """

    base: Path
    channels: Mapping[str, Path]
    hyperparameters: Mapping[str, Value]
    model_dir: Path
    device: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> TrainingContract:
        """Read the contract.

        Raises
        ------
        ConfigError
            A file of the contract is not JSON of its form.
        """
        base = base_dir(environ)
        config = base / "input" / "config"
        inputs = _read_object(config / "inputdataconfig.json")
        if inputs is None:
            prefix = "SM_CHANNEL_"
            channels = {
                name.removeprefix(prefix).lower().replace("_", "-"): Path(value)
                for name, value in environ.items()
                if name.startswith(prefix)
            }
        else:
            channels = {name: base / "input" / "data" / name for name in inputs}
        channels.pop(CODE_CHANNEL, None)
        raw = _read_object(config / "hyperparameters.json")
        if raw is None:
            raw = _object(environ.get("SM_HPS", "{}"), "SM_HPS")
        return cls(
            base=base,
            channels=channels,
            hyperparameters={
                key: decode(value)
                for key, value in raw.items()
                if not key.startswith(("sagemaker_", "_tuning_"))
            },
            model_dir=Path(environ.get("SM_MODEL_DIR") or base / "model"),
            device="gpu" if Path("/dev/nvidia0").exists() else "cpu",
        )

    def write_failure(self, sentence: str) -> None:
        """Leave one sentence in ``output/failure``."""
        write_failure(self.base, sentence)


def base_dir(environ: Mapping[str, str]) -> Path:
    """Where the contract's folders lie."""
    return Path(environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")


def write_failure(base: Path, sentence: str) -> None:
    """Write ``output/failure`` below ``base``; the caller exits right after."""
    folder = base / "output"
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    (folder / "failure").write_text(" ".join(sentence.split())[:_FAILURE_LIMIT], encoding="utf-8")


def decode(value: object) -> Value:
    """A hyperparameter as SageMaker hands it over: JSON-encoded, or raw text."""
    if not isinstance(value, str):
        return value if isinstance(value, bool | int | float) else json.dumps(value)
    try:
        decoded = json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return value
    return decoded if isinstance(decoded, bool | int | float | str) else value


def _refuse(constant: str) -> None:
    """NaN and Infinity are not JSON: such a value is text."""
    raise ValueError(constant)


def _read_object(path: Path) -> dict[str, object] | None:
    try:
        return _object(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot be read", where=str(path), action=_ACTION) from error


def _object(text: str, where: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError("is not JSON", where=where, action=_ACTION) from error
    if not isinstance(found, dict):
        raise ConfigError("is not a JSON object", where=where, action=_ACTION)
    return found


_ACTION = "start the job through SageMaker or fedsm's local cloud"

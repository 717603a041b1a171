"""An adapter of the user's own: ``model.py`` of the client code."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from fedsm.errors import ConfigError
from fedsm.learning.models.base import Adapter

CUSTOM = "custom"
"""Name of the adapter in ``training.model``."""

MODEL = "model.py"

_METHODS = ("check", "initial", "fit", "predict", "build")

_loaded: dict[Path, tuple[bytes, ModuleType]] = {}


def load(code: Path | None) -> Adapter:
    """The ``adapter`` of ``model.py`` in the folder ``code``.

    Raises
    ------
    ConfigError
        There is no such file, or no adapter in it, or it fails at import.
    """
    file = None if code is None else code.resolve() / MODEL
    if file is None or not file.is_file():
        raise ConfigError(
            f"there is no {MODEL} in the client code",
            where="training.model",
            action=f"write client_code/{MODEL} with an object `adapter`; see docs/models.md",
        )
    text = file.read_bytes()
    known, module = _loaded.get(file, (None, None))
    if module is None or known != text:
        module = _imported(file)
        _loaded[file] = text, module
    # By this name a model of the module's classes is pickled, at the coordinator and in jobs alike.
    sys.modules[file.stem] = module
    made: Adapter | None = getattr(module, "adapter", None)
    lacking = [name for name in _METHODS if not callable(getattr(made, name, None))]
    if made is None or lacking:
        raise ConfigError(
            f"has no object `adapter` with {', '.join(lacking)}",
            where=MODEL,
            action="define the methods of fedsm.learning.models.Adapter; see docs/models.md",
        )
    return made


def _imported(file: Path) -> ModuleType:
    try:
        return _import(file)
    except (Exception, SystemExit) as error:
        own = [f.lineno for f in extract_tb(error.__traceback__) if f.filename == str(file)]
        line = error.lineno if isinstance(error, SyntaxError) else own[-1]
        raise ConfigError(
            f"cannot be imported: {type(error).__name__} at line {line}",
            where=MODEL,
            action="mend the file, or add what it imports to client_code/requirements.txt",
        ) from error


def _import(file: Path) -> ModuleType:
    if str(file.parent) not in sys.path:  # for what it imports from beside it
        sys.path.insert(0, str(file.parent))
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None  # noqa: S101
    assert spec.loader is not None  # noqa: S101
    module = module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module

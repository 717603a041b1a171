"""fedsm: train one model over data that lives in many AWS accounts and never leaves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsm.errors import FedsmError as FedsmError
    from fedsm.federation import Federation as Federation
    from fedsm.run import Run as Run

__version__ = "0.1.0"

__all__ = ["Federation", "FedsmError", "Run", "__version__"]

# A job imports this package too, so the coordinator's side loads only when it is asked for.
_HOMES = {"Federation": "fedsm.federation", "FedsmError": "fedsm.errors", "Run": "fedsm.run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedsm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

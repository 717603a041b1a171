"""Files that ship with fedsm but are not modules: ``client_code/`` and ``iam/``.

They lie beside the package in a checkout and inside it in an installed wheel.
"""

from __future__ import annotations

from pathlib import Path

from fedsm.errors import FedsmError

_PACKAGE = Path(__file__).resolve().parent


def asset(name: str) -> Path:
    """Path of a shipped file or folder, such as ``client_code`` or ``iam/bootstrap.py``.

    Raises
    ------
    FedsmError
        The installation lacks it.
    """
    for root in (_PACKAGE / "_assets", _PACKAGE.parent):
        path = root / name
        if path.exists():
            return path
    raise FedsmError(
        f"the installed package lacks {name}", where="fedsm", action="install fedsm again"
    )

"""Loads the owner's ClientApp."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from flwr.clientapp import ClientApp

MODULE, ATTRIBUTE = "app", "app"


class AppNotFoundError(Exception):
    """``app.py`` has no ClientApp named ``app``."""


def load_app(code: Path) -> ClientApp:
    """Import ``app.py`` from the folder ``code`` and return its ``app``.

    Raises
    ------
    AppNotFoundError
        There is no such file, or no ClientApp of that name in it.
    Exception
        Whatever the file raises at import.
    """
    if not (code / f"{MODULE}.py").is_file():
        raise AppNotFoundError
    if str(code) not in sys.path:
        sys.path.insert(0, str(code))
    app = getattr(importlib.import_module(MODULE), ATTRIBUTE, None)
    if not isinstance(app, ClientApp):
        raise AppNotFoundError
    return app

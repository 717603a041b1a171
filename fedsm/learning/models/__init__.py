"""Model adapters by name: one kind of model, from its first arrays to a scikit-learn model.

An adapter is all that fedsm knows of a kind of model. Coordinator and jobs each build the final
model for themselves from the same arrays: a model file is a pickle, which is code, and no code
crosses the wire. The same arrays give the same bytes under the same versions of Python, NumPy and
the model's own library. docs/models.md adds an adapter step by step.
"""

from __future__ import annotations

from fedsm.learning.models.base import Adapter, Local, save
from fedsm.learning.models.custom import CUSTOM
from fedsm.learning.models.registry import ADAPTERS, adapter, evaluate

__all__ = ["ADAPTERS", "CUSTOM", "Adapter", "Local", "adapter", "evaluate", "save"]

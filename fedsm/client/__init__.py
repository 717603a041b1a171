"""What runs in the job: the SageMaker contract around a stock Flower ClientApp."""

from __future__ import annotations

import os

# Flower calls home unless told otherwise before it is imported; a job's network may be closed.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

"""Entry point of the job: join the federation, serve ``app.py``, leave the model."""

from __future__ import annotations

import sys

from fedsm.client.runtime import main

if __name__ == "__main__":
    sys.exit(main())

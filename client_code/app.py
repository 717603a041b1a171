"""What each site does with the coordinator's messages, as a Flower ClientApp.

The general case: the model that ``training.model`` names, on rows that ``data.py`` reads, prepared
by statistics of the whole federation. A net or a model of your own: ``net.py`` or ``model.py``
beside this file (docs/models.md). Something else altogether: write a ClientApp of your own and call
it ``app``.
"""

from __future__ import annotations

from data import train_rows, validation_rows

from fedsm.learning.site_app import tabular_app

app = tabular_app(train_rows, validation_rows)

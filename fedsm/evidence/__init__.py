"""The journal as evidence: a pack for an auditor, and its check against what the sites kept.

A pack is a zip of uncompressed files:

==============  ==================================================================================
journal.jsonl   the journal, line by line as it was written
plan.json       the launch as it was planned; the journal has its digest
summary.md      both, told for people
manifest.json   size and SHA-256 of each, and the journal's head
==============  ==================================================================================

The chain of hashes shows a line that was altered, moved or left out. Whoever holds the journal can
make a new chain, or cut it off at its end: that shows in the heads which every site kept in its own
account (``heads.jsonl`` in its ``model.tar.gz``).
"""

from __future__ import annotations

from fedsm.evidence.heads import SiteHeads, read_heads
from fedsm.evidence.pack import write
from fedsm.evidence.verify import Verdict, verify

__all__ = ["SiteHeads", "Verdict", "read_heads", "verify", "write"]

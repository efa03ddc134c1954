"""What a sync did, and what it could not do."""

from __future__ import annotations

from wanllmdb.types import SyncReport as SyncReport

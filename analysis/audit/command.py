"""`mrd-lens audit …` and `mrd-lens balance`, read and written."""

from __future__ import annotations

from analysis.audit.config import AuditConfig
from mrd_core.settings.command import Command

AUDIT = Command(("audit", "set"), AuditConfig)

"""`mrd-lens audit …` and `mrd-lens balance`, read and written."""

from __future__ import annotations

from analysis.audit.config import AuditConfig, BalanceConfig, RiskConfig
from mrd_core.settings.command import Command

AUDIT = Command(("audit", "set"), AuditConfig)
BALANCE = Command(("balance",), BalanceConfig)
RISK = Command(("audit", "risk"), RiskConfig)

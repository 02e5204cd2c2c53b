"""An audit as JSON, as a table and as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.audit.config import AuditConfig, RiskConfig
from analysis.audit.ease import Audit, in_hundred
from analysis.audit.risk import ACCURACY, BACK, EXTRACTION, NLL, NOT_ATTACKED, PROBABILITY, Risk
from analysis.export.files import NOTHING, csv_file, json_file, markdown_table, markdown_text, records
from analysis.statistics.bootstrap import Estimate

MORE = "of 100 with more"


def audit_json(audit: Audit, config: AuditConfig) -> dict[str, Any]:
    """Return an audit as JSON values: undefined figures are None."""
    return {
        "verdict": audit.verdict,
        "sentence": audit.sentence,
        "others": audit.others,
        "settings": config.model_dump(mode="json"),
        "n_set": audit.n_set,
        "n_pool": audit.n_pool,
        "groups": audit.groups and list(audit.groups),
        "random_sets": audit.draws,
        "exact": audit.exact,
        "rows": records(audit.frame),
        "notes": list(audit.notes),
    }


def audit_table(audit: Audit) -> pd.DataFrame:
    """Return the rows of an audit for people, every cell text."""
    rows = audit.rows
    return pd.DataFrame(
        {
            "": [f"{row.title}{' *' if row.differs else ''}" for row in rows],
            "set, rest": [f"{figure(row.mean_set)},\n{figure(row.mean_rest)}" for row in rows],
            "difference [95 %]": [with_ends(row.difference, "+.3g") for row in rows],
            "Cliff's δ [95 %]": [with_ends(row.delta, "+.2f") for row in rows],
            "p (Holm)": [figure(row.p_holm, ".2g") for row in rows],
            MORE: [NOTHING if np.isnan(row.above) else in_hundred(row.above) for row in rows],
        }
    )


def audit_markdown(audit: Audit, config: AuditConfig) -> str:
    """Return an audit as a Markdown document."""
    settings = {
        "Pool": f"{config.pool}, {audit.n_pool} samples",
        "Forget set": f"{config.forget_set}, {audit.n_set} samples",
        "Kept together": NOTHING
        if audit.groups is None
        else f"{config.group}; {audit.groups[0]} groups in the set",
        "Random sets": f"{audit.draws:,}{' (all)' if audit.exact else f', seed {config.seed}'}",
    }
    return "\n".join(
        [
            "# Is the forget set easier than it should be?\n",
            f"{markdown_text(audit.sentence)} {markdown_text(audit.others)}\n",
            *(f"- {name}: {markdown_text(value)}" for name, value in settings.items()),
            "",
            markdown_table(audit_table(audit)),
            f"{MORE}: how many of 100 random sets have a larger mean. \\* More than chance and the noise of MRD "
            "explain: p (Holm) < 0.05, and the interval excludes 0.\n",
            *(f"- {markdown_text(note)}" for note in audit.notes),
            "",
        ]
    )


def exports(audit: Audit, config: AuditConfig) -> Mapping[str, Callable[[], bytes]]:
    """Return for each file name what makes its content."""
    return {
        "audit.json": lambda: json_file(audit_json(audit, config)),
        "audit.csv": lambda: csv_file(audit.frame),
        "audit.md": lambda: audit_markdown(audit, config).encode(),
    }


def risk_json(risk: Risk, config: RiskConfig) -> dict[str, Any]:
    """Return the risk that is left as JSON values: undefined figures are None."""
    return {
        "sentence": risk.sentence,
        "settings": config.model_dump(mode="json"),
        "thresholds": [threshold.in_words for threshold in risk.thresholds],
        "samples": records(risk.listed),
        "notes": list(risk.notes),
    }


def risk_table(risk: Risk) -> pd.DataFrame:
    """Return the samples at risk for people, every cell text."""
    rows = risk.listed
    columns = {"MRD": "mrd", "MA": ACCURACY, "NLL": NLL, "extraction": EXTRACTION}
    figures = {title: [figure(value) for value in rows[name]] for title, name in columns.items() if name in rows}
    if BACK in rows:
        figures["comes back by"] = [value or NOTHING for value in rows[BACK].fillna(NOT_ATTACKED)]
        figures["probability"] = [figure(value, ".2f") for value in rows[PROBABILITY]]
    prompts = rows["prompt"].where(rows["prompt"] == "", rows["prompt"] + " → ")
    return pd.DataFrame({"sample": rows["sample_id"] + ": " + prompts + rows["answer"]} | figures)


def risk_exports(risk: Risk, config: RiskConfig) -> Mapping[str, Callable[[], bytes]]:
    """Return for each file name what makes its content: the list, and a table of all samples."""
    lines = [
        "# What risk is left?\n",
        f"{markdown_text(risk.sentence)}\n",
        f"- Unlearning run: {markdown_text(str(config.run))}\n",
        markdown_table(risk_table(risk)) if len(risk.listed) else "No sample is at risk.\n",
        *(f"- {markdown_text(note)}" for note in risk.notes),
        "",
    ]
    return {
        "risk.json": lambda: json_file(risk_json(risk, config)),
        "risk.csv": lambda: csv_file(risk.table),
        "risk.md": lambda: "\n".join(lines).encode(),
    }


def figure(value: float, form: str = ".3g") -> str:
    """Return a number for people."""
    return NOTHING if pd.isna(value) else f"{value:{form}}".replace("-", "−")


def with_ends(estimate: Estimate, form: str) -> str:
    """Return a value above its interval, where it has one."""
    value, low, high = (figure(each, form) for each in estimate[:3])
    return value if np.isnan(estimate.low) else f"{value}\n[{low}, {high}]"

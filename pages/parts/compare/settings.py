"""What an evaluation asks besides the usual: suite and data, reference model, limits, harness, classifier."""

from __future__ import annotations

import streamlit as st

from mrd_core.evaluation import harness
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.suites import suites
from mrd_core.evaluation.suites.tofu import FORGET_SPLITS
from mrd_core.studies.presets import demo_settings
from pages.shell import session
from pages.shell.inputs import Form, Values
from pages.shell.scored import DEMO, Scored

FORM = Form("compare")
OF_SUITE = {
    "reference": "Retrained reference",
    "max_new_tokens": "Most new tokens",
    "embedding_model": "Sentence embeddings",
    "toxicity_model": "Toxicity classifier",
}
EMPTY = {
    "reference": "none",
    "max_new_tokens": "200, or 300",
    "embedding_model": "none: accuracy by ROUGE-L",
    "toxicity_model": "unitary/toxic-bert",
}
# On two cores an evaluation of the demo's model then takes a minute or two; empty asks all samples.
DEMO_LIMIT: int = demo_settings("evaluate")["limit"]


def ask(*, demo: bool) -> Values:
    """Show the settings, and return what was set, paths as they were typed."""
    config = EvaluateConfig
    titles = {name: declared.title for name, declared in suites().items()}
    values: Values = {"suite": FORM.choice(config, "suite", "Suite", titles)}
    suite = suites()[values["suite"]]
    left, right = st.columns(2)
    with left:
        values["data"] = FORM.text(config, "data", "Folder or data set")
        st.caption(suite.data)
        limit = DEMO_LIMIT if demo else None
        values["limit"] = FORM.number(config, "limit", "Most samples of a set", "all", limit)
        values["extraction_likelihood"] = FORM.switch(config, "extraction_likelihood", "Extraction likelihood")
    with right:
        if "forget_split" in suite.fields:
            splits = {split: split for split in reversed(FORGET_SPLITS)}
            values["forget_split"] = FORM.choice(config, "forget_split", "Forget set", splits)
        offered = {field: label for field, label in OF_SUITE.items() if field in (*suite.fields, "max_new_tokens")}
        values |= FORM.fields(config, offered, EMPTY)
        if suite.tasks and harness.available() is None:
            st.caption(
                ":material/info: lm-evaluation-harness is not installed, so its tasks are left out "
                "(`pip install lm-eval`)."
            )
        elif suite.tasks:
            names = FORM.text(config, "harness_tasks", "Harness tasks", placeholder=suite.tasks)
            values["harness_tasks"] = tuple(task.strip() for task in names.split(",") if task.strip())
    return values


def config_values(scored: Scored, values: Values) -> Values:
    """Return the settings that all evaluations share, with paths in full and the sets that are known.

    Raises:
        UserError: No allowed root holds a path.
    """
    named = {name: value for name, value in values.items() if value not in (None, "")}
    for name in ("data", "reference", "embedding_model", "toxicity_model"):
        if name in named:
            named[name] = session.located(named[name], local=False)
    if named["suite"] == "custom" and "data" not in named:
        # What is asked beside the forget set of a run, the same for all runs.
        sets = {"retain": scored.retain, "held_out": DEMO if scored.is_demo else None}
        named |= {name: source for name, source in sets.items() if source is not None}
    return named | {"score_run": scored.run.directory, "model": scored.config.model}

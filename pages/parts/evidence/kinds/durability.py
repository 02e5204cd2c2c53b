"""Durability: what comes back of each model in each attack, what foretells it, and which samples are expected."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.evidence.kinds.durability import ATTACK_NAMES, Durability
from analysis.evidence.measurements import in_words
from analysis.evidence.return_league import MEAN
from analysis.evidence.returns import worst
from analysis.figures import durability as figures
from analysis.figures import evidence as evidence_figures
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import ATTACKS, REFERENCE, DurabilityConfig
from mrd_core.runs import Run
from pages.parts.evidence import charts, launch, selected
from pages.parts.evidence.presentation import Presentation
from pages.shell import attacks, experiments, filters, layout, paths, sample_table, session, unlearnings
from pages.shell.configs import BY_ATTEMPT
from pages.shell.downloads import csv_download
from pages.shell.inputs import Form, Values, one_of
from pages.shell.notices import literal
from pages.shell.scored import Scored
from pages.shell.terms import linked

SAMPLE_COLUMNS = {
    "probability": st.column_config.NumberColumn(
        "Expected back", format="percent", help="Probability, by models that did not see the sample"
    ),
    "back": st.column_config.CheckboxColumn("Back", help="At the last look; empty: it was not attacked"),
    "step": st.column_config.NumberColumn("First back", format="%g", help="Step of the first look that found it"),
    "left": st.column_config.NumberColumn("MA left", format="%.2f", help="After unlearning"),
    "end": st.column_config.NumberColumn("MA at the end", format="%.2f", help="Mean over the repeats"),
    "prompt": sample_table.PROMPT,
    "answer": sample_table.ANSWER,
    "sample_id": sample_table.ID,
}
LEAGUE_COLUMNS = {
    "measure": st.column_config.TextColumn("Measure"),
    "rho": st.column_config.TextColumn("ρ with the gain", help="Spearman, 95 % interval; combinations: held-out"),
    "partial": st.column_config.TextColumn("Length held", help="What is left once length is accounted for"),
    "level": st.column_config.TextColumn(
        "Level, MA left held", help="MA at the last look, with what was left held"
    ),
    "step": st.column_config.TextColumn("First back", help="ρ with the step; those that stay away are last"),
}


def show(run: Run, experiment: Run, evidence: Durability) -> None:
    """Show what comes back by training and without, what foretells it, and every sample."""
    models = {model: name for model, name in evidence.names.items() if model != REFERENCE}
    # The headline speaks of that which brought back most.
    told = worst(evidence.lines).attack if evidence.lines else ""
    kinds = {
        attack: ATTACK_NAMES[attack] for attack in sorted(evidence.attacks, key=lambda attack: attack != told)
    }
    with st.container(horizontal=True):
        model = one_of("Unlearned by", models, "evidence_model")
        attack = one_of("Trained on", kinds, "evidence_attack") if kinds else ""
    if len(models) > 1:
        st.markdown(linked("\n".join(f"- {finding}" for finding in evidence.of_models[model])))
    returning, other, foretold, every = st.tabs(
        ["What comes back", "Without training", "What foretells it", "Every sample"]
    )
    with returning:
        _returning(evidence, model, attack)
    with other:
        _without_training(evidence)
    with foretold:
        _foretold(experiment, evidence, model, attack)
    with every:
        _samples(experiment, evidence, model, attack)
        selected.show(run)


def ask(scored: Scored, form: Form) -> Values:
    """Ask for the unlearning runs, the reference and the attacks."""
    config, done = DurabilityConfig, unlearnings.finished(scored.run)
    if not done:
        _unlearn_first(scored)
    first = [run.id for run in unlearnings.judged(scored.run)[:1]]
    with layout.grid("evidence_durability", least="20rem"):
        chosen = form.several(config, "runs", "Unlearning runs", unlearnings.names_of(done), first)
        reference = form.text(
            config, "reference", "Reference", attacks.reference(scored), "none: a folder or a hub id"
        )
        kinds = form.several(config, "attacks", "Attacks", ATTACKS)
        values = form.fields(config, {"learning_rate": "Learning rate", "answers": "Answers are written at"})
    values |= {"attacks": kinds, "reference": session.located(reference, local=False) if reference else None}
    return attacks.settings([each.directory for each in done if each.id in chosen]) | values


def one_click(scored: Scored) -> None:
    """Show one button that tries to bring back what the unlearning run forgot by which the score run is judged."""
    done = unlearnings.judged(scored.run)
    if not done:
        _unlearn_first(scored)
        return
    name = literal(unlearnings.names_of(done)[done[0].id])
    st.markdown(f"Nobody has tried to bring back what **{name}** forgot.")
    config = attacks.quick(scored, done[0])
    size = f" for {min(config.samples, scored.n_samples)} samples and {len(config.attacks)} attacks"
    launch.button(scored, config, "Try to bring it back", "evidence_durability_first", size)


def so_far(_run: Run, experiment: Run) -> None:
    """Say what is back so far, a line for each model and attack that is done."""
    for line in experiments.comebacks(experiment):
        st.caption(f"So far, {literal(line.model)}: {line.sentence}.")


def _unlearn_first(scored: Scored) -> None:
    st.markdown("Nothing has been unlearned from these scores yet, so nothing can come back.")
    st.page_link(paths.UNLEARNING, label="Unlearn\u00a0→", query_params={session.RUN: scored.run.id})


def _returning(evidence: Durability, model: str, attack: str) -> None:
    if not attack:
        st.info("No model was trained on anything in this experiment.", icon=":material/info:")
        return
    with layout.grid("evidence_returning", least=charts.LEAST_WIDTH):
        figure, alt = (
            figures.still_forgotten(evidence, model, attack),
            "Samples that are still forgotten over steps",
        )
        charts.boxed(figure, "still_forgotten", alt)
        alt = "Mean MA of forgotten samples and of the retain set over steps"
        charts.boxed(figures.memorization_over_steps(evidence, attack), "memorization", alt)


def _without_training(evidence: Durability) -> None:
    drawn = (
        (evidence.round_trips, figures.rounded, "round_trips", "What rounding the weights adds to MA"),
        (evidence.leaks, figures.best_of_k, "leaks", "ROUGE-L of the best of k drawn answers"),
        (evidence.prompts, figures.begun_answers, "prompts", "What is written of an answer that was begun"),
    )
    if not any(len(table) for table, *_ in drawn):
        st.info("Weights were not rounded and no answers asked for in this experiment.", icon=":material/info:")
    with layout.grid("evidence_leaks", least=charts.LEAST_WIDTH):
        for table, figure, name, alt in drawn:
            if len(table):
                charts.boxed(figure(evidence), name, alt)


def _foretold(experiment: Run, evidence: Durability, model: str, attack: str) -> None:
    """Show every measure by what it says of the gain, of one model or of all."""
    keys = {model: evidence.names[model], MEAN: "mean over the models"}
    names = {key: name for key, name in keys.items() if (key, attack) in evidence.leagues}
    if not names:
        st.info("The control is there to compare with: nothing is foretold of it.", icon=":material/info:")
        return
    of = one_of("Ranked by the gain of", names, "evidence_return_league")
    table = evidence.leagues[of, attack].table
    if table.empty:
        st.info("Too few samples were forgotten to rank anything.", icon=":material/info:")
        return
    chart, in_figures = st.tabs(["Chart", "Table"])
    with chart:
        figure = evidence_figures.league_plot(table, names[of], "the gain")
        charts.boxed(
            figure, "return_league", "Every measure with its correlation with the gain of MA, best on top"
        )
    with in_figures:
        words = {"measure": table["title"], "rho": in_words(table, "rho")}
        words |= {column: in_words(table, column, f"{column}_") for column in ("partial", "level", "step")}
        st.dataframe(
            pd.DataFrame(words),
            hide_index=True,
            column_config=LEAGUE_COLUMNS,
            placeholder="–",
            alt="Every measure by how well it foretells what comes back",
        )
        csv_download(table, f"{experiment.id}-league-shown", "League table (CSV)")
    subtracted = ", less that of the reference" if REFERENCE in evidence.names else ""
    st.caption(
        f"Gain of MA of the samples that were forgotten, from the first look to the last{subtracted}; trained on "
        f"{ATTACK_NAMES[attack]}. Left by unlearning: what is known after it, and the updates received."
    )


@st.cache_data(show_spinner=False, max_entries=8, hash_funcs=BY_ATTEMPT)
def _texts(experiment: Run) -> pd.DataFrame:
    columns = ["sample_id", "prompt", "answer"]
    return pd.read_parquet(ExperimentFiles(experiment.directory).samples, columns=columns)


def _samples(experiment: Run, evidence: Durability, model: str, attack: str) -> None:
    """Show which samples are expected back, how good that is, and what became of those that were attacked."""
    forecast, columns = evidence.forecasts.get((model, attack)), dict(SAMPLE_COLUMNS)
    table = evidence.attacked(model, attack)
    if table.empty:
        st.info("Nothing was forgotten, or nothing trained on, so nothing came back.", icon=":material/info:")
        return
    is_foretold, order = forecast is not None and forecast.figures is not None, "Those that are back first"
    with layout.grid("evidence_attacked", least=charts.LEAST_WIDTH):
        figure = figures.left_and_end(evidence, model, attack, session.current_sample())
        charts.boxed(
            figure, "left_and_end", "MA of each sample at the last look against MA left", "that were attacked"
        )
        if forecast is not None and is_foretold:
            alt = "Foretold and observed shares of samples that came back"
            charts.boxed(figures.calibration_plot(forecast, evidence.names[model]), "calibration", alt)
    if forecast is not None and is_foretold:
        expected = forecast.samples[["sample_id", "probability", "left"]].round(3)
        table, order = expected.merge(table.drop(columns="left"), on="sample_id", how="left"), "Likeliest first"
    else:
        del columns["probability"]
        if forecast is not None:
            st.caption(f"No probabilities: {forecast.refusal}.")
    table["back"] = table["back"].map(lambda back: None if pd.isna(back) else bool(back))
    table = table.merge(_texts(experiment), on="sample_id")
    alt = "Samples that were forgotten, with what became of them"
    sample_table.show("evidence_returns", table, filters.selected_of(table), columns, alt, order)


PRESENTATION = Presentation(
    sizes={"samples": "Samples", "seeds": "Repeats", "steps": "Steps", "draws": "Answers drawn"},
    show=show,
    ask=ask,
    so_far=so_far,
    one_click=one_click,
)

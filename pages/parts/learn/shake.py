"""Step 2: shake the weights, from draws that were stored."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from analysis import elsewhere
from analysis.figures.lesson import pair
from analysis.lesson import shake
from mrd_core.dossier.files import Dossier
from pages.parts.learn import memory
from pages.parts.learn.memory import keep, key_of, spoken_of
from pages.shell.charts import chart, data_beneath
from pages.shell.wording import plain

SAMPLE, SIGMA, SEED = "sample", "sigma", "seed"
# Where the slider stands at first.
START = 1e-3
# How far a token is moved up or down at most [px], and the relative change below which moves are drawn to scale.
MOST, LINEAR = 14.0, 0.002
# It ends by itself, so that nobody has to stop it.
TREMBLE = """<style>
@keyframes tremble { from { transform: translateY(var(--plus)); } to { transform: translateY(var(--minus)); } }
.tremble { font-size: 1.35rem; line-height: 2.6rem; margin: 1rem 0 0; }
.tremble span {
  display: inline-block; white-space: pre; transform: translateY(var(--plus));
  animation: tremble .35s ease-in-out 12 alternate;
}
@media (prefers-reduced-motion: reduce) { .tremble span { animation: none; } }
</style>"""


@st.cache_data(show_spinner=False)
def _shaken(directory: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    draws = shake.shaken(Dossier(directory))
    return draws, shake.samples(Dossier(directory), draws)


def show(dossier: Dossier) -> str:
    """Let the learner shake an answer; return what is yet to be done."""
    st.markdown(
        "Add a little random noise δ to all weights θ: every token of an answer becomes more or less probable. "
        "The opposite noise −δ undoes most of it. Move σ, the strength of the noise, and change its seed."
    )
    draws, samples = _shaken(dossier.directory)
    with spoken_of("shake"):
        sample_id, sigma, seed = _inputs(draws, samples)
        of_sample = draws[(draws["sample_id"] == sample_id) & (draws["sigma"] == sigma)]
        tokens = of_sample[of_sample["seed"] == seed]
        st.html(TREMBLE)
        st.html(_trembling(tokens))
        figure = pair(tokens, shake.ends(of_sample), sigma)
        chart(
            figure,
            "halves_of_a_pair",
            "How far each token moves under noise, under its opposite, and in the mean of both",
        )
    columns = ["token", "log_prob", "plus", "minus", *(f"relative_{half}" for half in shake.HALVES), "relative"]
    data_beneath(tokens[columns], "halves_of_a_pair", "Log-probabilities [nats] and relative changes")
    if memory.chosen(SIGMA) is None:
        return "move σ."
    figures = shake.quiet(of_sample)
    st.markdown(f"**What to conclude.** {shake.conclusion(figures, sigma, of_sample['seed'].nunique())}")
    st.markdown(f"**On three models, this one among them.** {elsewhere.SIGMAS}")
    return ""


def _inputs(draws: pd.DataFrame, samples: pd.DataFrame) -> tuple[str, float, int]:
    """Return the sample, σ and the seed that the learner chose."""
    rows = samples.set_index("sample_id")
    names = {each: f"rank {row['rank']} of {row['of']}" for each, row in rows.iterrows()}
    sample_id = st.segmented_control(
        "Answer (1 is the hardest)",
        list(names),
        default=memory.chosen(SAMPLE, next(iter(names))),
        required=True,
        format_func=names.__getitem__,
        key=key_of(SAMPLE),
        on_change=keep,
        args=(SAMPLE,),
    )
    st.markdown(f"{plain(rows['prompt'][sample_id])} **{plain(rows['answer'][sample_id])}**")
    left, right = st.columns(2)
    sigmas, seeds = (sorted(draws[name].unique()) for name in ("sigma", "seed"))
    sigma = left.select_slider(
        "σ of the noise",
        sigmas,
        memory.chosen(SIGMA, START),
        "{:g}".format,
        key=key_of(SIGMA),
        on_change=keep,
        args=(SIGMA,),
    )
    seed = right.select_slider(
        "Seed", seeds, memory.chosen(SEED, seeds[0]), key=key_of(SEED), on_change=keep, args=(SEED,)
    )
    return sample_id, float(sigma), int(seed)


def _trembling(tokens: pd.DataFrame) -> str:
    """Return the tokens as HTML, each moved up and down by what both halves do; the figure says the same."""
    spans = []
    for token, *changes in tokens[["token", "relative_plus", "relative_minus"]].itertuples(index=False):
        plus, minus = (MOST * np.tanh(np.arcsinh(change / LINEAR) / 4) for change in changes)
        spans.append(f'<span style="--plus:{-plus:.1f}px;--minus:{-minus:.1f}px">{escape(token)}</span>')
    return f'<p class="tremble" aria-hidden="true">{"".join(spans)}</p>'

"""Step 4: five samples in an order by hand, then how many updates they took."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis import elsewhere
from analysis.figures.lesson import correlations
from analysis.lesson import forecast
from mrd_core.dossier.files import Dossier
from pages.parts.learn.memory import chosen, keep, key_of, spoken_of
from pages.shell.charts import chart, data_beneath
from pages.shell.layout import static_table

ORDER = "order"
_forecast = st.cache_data(show_spinner=False)(lambda directory: forecast.forecast(Dossier(directory)))


def show(dossier: Dossier) -> str:
    """Have the learner rank five samples, then show their updates; return what is yet to be done."""
    st.markdown(
        f"Each of these {forecast.FIVE} answers was unlearned by itself, from the same weights, until the model "
        "no longer knew it. Which took the most updates? Choose all of them, the most updates first."
    )
    of_demo: forecast.Forecast = _forecast(dossier.directory)
    five = of_demo.five
    answers = five.set_index("sample_id")["answer"]
    with spoken_of("forecast_order", is_spoken_of=len(chosen(ORDER, [])) < len(five)):
        order = st.multiselect(
            "Your order, most updates first",
            list(answers.index),
            chosen(ORDER, []),
            lambda each: str(answers[each]),
            key=key_of(ORDER),
            on_change=keep,
            args=(ORDER,),
            placeholder="Choose the answers one after the other",
        )
    if len(order) < len(five):
        left = len(five) - len(order)
        return f"choose {left} more answer{'s' if left > 1 else ''}."
    with spoken_of("forecast_updates"):
        static_table(_held_against(five, order), "Your order beside the updates")
    st.markdown(f"{forecast.by_hand(five, order)} Now all {len(of_demo.table)} samples:")
    table = of_demo.correlations
    figure = correlations(table, "What foretells updates on the demo", "Spearman’s ρ with updates", "measure")
    chart(figure, "what_foretells_updates", "Rank correlation of measures with updates, with intervals")
    data_beneath(table, "what_foretells_updates", "Rank correlation of measures with updates")
    st.markdown(f"**What to conclude.** {forecast.conclusion(of_demo)}")
    st.markdown(f"**On three models, this one among them.** {elsewhere.UPDATES}")
    return ""


def _held_against(five: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    rows = five.set_index("sample_id").loc[order]
    columns = {"answer": "Answer", "updates": "Updates", "mrd": "MRD", "median_log_odds": "Median log-odds"}
    table = rows[list(columns)].rename(columns=columns).assign(Updates=rows["updates"].astype(int))
    for name, form in {"MRD": "{:.2g}", "Median log-odds": "{:.1f}"}.items():
        table[name] = table[name].map(form.format)
    table.insert(0, "Your place", range(1, len(rows) + 1))
    return table

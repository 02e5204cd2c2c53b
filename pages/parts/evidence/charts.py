"""Charts of experiments, each in a box and to take along; where its points are samples, they select."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.shell.charts import chart, sample_chart

LEAST_WIDTH = "24rem"


def boxed(figure: Any, name: str, alt: str, origin: str = "") -> None:
    """Show a figure in a box.

    Args:
        figure: What is shown; where its points are samples, their customdata begin with the sample's id.
        name: Of its file.
        alt: What it is.
        origin: Where samples that are chosen in it are from, for the chip; "" where its points are no samples.
    """
    key, file = f"evidence_chart_{name}", f"evidence_{name}"
    with st.container(border=True, height="stretch"):
        if origin:
            sample_chart(figure, key, origin, alt, file, is_narrow=True)
        else:
            chart(figure, key, alt, file, is_narrow=True)

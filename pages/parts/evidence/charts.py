"""Charts of experiments, each in a box and to take along; where its points are samples, they select."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.shell.charts import NARROW, sample_chart
from pages.shell.downloads import figure_download

LEAST_WIDTH = "24rem"


def chart(figure: Any, name: str, alt: str) -> None:
    """Show a figure in a box.

    Args:
        figure: What is shown.
        name: Of its file.
        alt: What it is.
    """
    with st.container(border=True, height="stretch"):
        st.plotly_chart(figure, key=f"evidence_chart_{name}", config=NARROW, alt=alt)
        figure_download(figure, f"evidence_{name}")


def boxed_sample_chart(figure: Any, name: str, alt: str, origin: str) -> None:
    """Show a figure whose points are samples in a box; those that are chosen in it are looked at in every view.

    Args:
        figure: The customdata of its points begins with the sample's id.
        name: Of its file.
        alt: What it is.
        origin: Where samples that are chosen in it are from, for the chip.
    """
    with st.container(border=True, height="stretch"):
        sample_chart(figure, f"evidence_chart_{name}", origin, alt, is_narrow=True)
        figure_download(figure, f"evidence_{name}")

"""MRD Lens: `streamlit run app.py`."""

import streamlit as st

import pages.shell  # noqa: F401  (before anything is drawn)
from pages.shell import history

# Off in the configuration, so that nobody sees the navigation that Streamlit makes of the folder `pages`.
st.set_option("client.showSidebarNavigation", True)
# An emoji, not a material icon: the browser would fetch that from another machine.
st.set_page_config(page_title="MRD Lens", page_icon="🔬", layout="wide")
history.tidy()
st.navigation(
    {
        "Runs": [
            st.Page("pages/start.py", title="Start", icon=":material/home:", default=True),
            st.Page("pages/forget_set.py", title="Forget set", icon=":material/playlist_remove:"),
        ],
        "This run": [
            st.Page("pages/difficulty.py", title="Difficulty", icon=":material/fitness_center:"),
            st.Page("pages/characteristics.py", title="Characteristics", icon=":material/category:"),
            st.Page("pages/evidence.py", title="Evidence", icon=":material/fact_check:"),
            st.Page("pages/unlearning.py", title="Unlearning", icon=":material/ink_eraser:"),
            st.Page("pages/compare.py", title="Compare", icon=":material/balance:"),
        ],
        "More": [
            st.Page("pages/two_sets.py", title="Two sets", icon=":material/compare_arrows:"),
            st.Page("pages/audit.py", title="Audit", icon=":material/policy:"),
            st.Page("pages/learn.py", title="Learn", icon=":material/school:"),
            st.Page("pages/glossary.py", title="Glossary", icon=":material/menu_book:"),
        ],
    }
).run()

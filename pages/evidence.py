"""Evidence: does difficulty predict unlearning on this model? Experiments, their verdicts and their figures."""

from pages.parts.evidence import tabs
from pages.shell import verdict_bar
from pages.shell.page import page, scored_run

with page("Evidence", of_run=True):
    run = scored_run("Evidence is gathered for the scores of a forget set. None is scored yet.", "evidence comes")
    if run is not None:
        verdict_bar.show(run, watches=False)
        tabs.show(run)

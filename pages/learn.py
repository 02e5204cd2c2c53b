"""Learn: five steps of a minute through the demo's finished runs, each with its true answer."""

from mrd_core.dossier.files import shipped
from pages.parts.learn import walk
from pages.shell.page import page

with page(
    "Learn",
    "Five steps of a minute on what a small model knows of invented people. All of it was measured before: "
    "nothing is computed here, and nothing needs a GPU or a network.",
):
    walk.show(shipped())

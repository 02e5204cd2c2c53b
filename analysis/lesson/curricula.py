"""What curricula buy: the two unlearnings of the demo side by side."""

from __future__ import annotations

import pandas as pd

from analysis.lesson.answers import means
from mrd_core.dossier.files import Dossier, Part
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.records import UnlearningSummary

ORDERS = {"Drawn at random": Part.UNIFORM, "Drawn in proportion to MRD": Part.WEIGHTED}
# What counts as the same number of updates, as a share of them.
ALIKE = 0.05
FEWER, SAME, MORE = PREDICTIONS = ("Fewer", "About the same", "More")


def summaries(dossier: Dossier) -> dict[str, UnlearningSummary]:
    """Return the figures of the two unlearnings by their orders."""
    return {
        order: UnlearningSummary.model_validate(UnlearningFiles(dossier.run(part)).read_summary())
        for order, part in ORDERS.items()
    }


def table_of(of_orders: dict[str, UnlearningSummary], dossier: Dossier) -> pd.DataFrame:
    """Return what both unlearnings came to, a row each."""
    passes = ScoreFiles(dossier.run(Part.SCORE)).read_figures().passes
    weighted = list(ORDERS)[1]
    # Before, and after either order.
    written = means(dossier, "rouge").loc["retain"]
    return pd.DataFrame(
        [
            {
                "Order": order,
                "Updates": f"{each.updates:,}",
                "Forgotten at the end": f"{each.forgotten_at_end} of {each.n_samples}",
                "Came back on the way": each.came_back,
                "MA of what is kept": f"{each.retain_accuracy_before:.1%} → {each.retain_accuracy:.1%}",
                "ROUGE-L of its answers there": f"{written.iloc[0]:.2f} → {after:.2f}",
                "Scored before [passes]": f"{passes:.0f}" if order == weighted else "0",
            }
            for (order, each), after in zip(of_orders.items(), written.iloc[1:], strict=True)
        ]
    )


def right(of_orders: dict[str, UnlearningSummary]) -> str:
    """Return how many updates the order by MRD took beside the random one."""
    uniform, weighted = (each.updates for each in of_orders.values())
    return SAME if abs(weighted / uniform - 1) <= ALIKE else FEWER if weighted < uniform else MORE


def conclusion(of_orders: dict[str, UnlearningSummary]) -> str:
    """Say what the order bought, and what of it is not known."""
    uniform, weighted = of_orders.values()
    share = f"{weighted.updates / uniform.updates - 1:+.0%}".replace("-", "−")
    return (
        f"{right(of_orders)}: {weighted.updates:,} updates where the random order took {uniform.updates:,} "
        f"({share}), and the scores had to be measured first. It is one seed, and proves little; over five "
        "no order was found that saves updates on the demo for sure. Of what was to be kept both models still "
        "know the next token, and no longer write the answers: forgetting had its price. Of the samples found "
        f"forgotten on the way, {uniform.came_back} (at random) and {weighted.came_back} (by MRD) were known "
        "again at the end."
    )

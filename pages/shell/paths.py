"""Where the pages lie that others lead to."""

from __future__ import annotations

FORGET_SET, DIFFICULTY = "pages/forget_set.py", "pages/difficulty.py"
CHARACTERISTICS, EVIDENCE = "pages/characteristics.py", "pages/evidence.py"
UNLEARNING, COMPARE, LEARN = "pages/unlearning.py", "pages/compare.py", "pages/learn.py"

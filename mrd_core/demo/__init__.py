"""The demo: an invented people, and a small model in this folder that has learnt about them by heart.

`corpus` writes the questions and answers, `train` made the model and its retrained reference, which never saw the
forget rows. Importing this package loads no torch.
"""

from __future__ import annotations

from pathlib import Path

MODEL_DIR: Path = Path(__file__).resolve().parent / "model"
"""Folder of the committed model: safetensors, tokenizer and model card."""

RETRAINED_DIR: Path = MODEL_DIR.with_name("retrained")
"""Folder of the retrained reference."""

MODELS = {"demo": MODEL_DIR, "demo-retrained": RETRAINED_DIR}
"""The models that ship with the project, by the names that users call them."""

"""The demo: an invented people, and a small model in this folder that has learnt about them by heart.

`corpus` writes the questions and answers, `train` made the model. Importing this package loads no torch.
"""

from __future__ import annotations

from pathlib import Path

MODEL_DIR: Path = Path(__file__).resolve().parent / "model"
"""Folder of the committed model: safetensors, tokenizer and model card."""

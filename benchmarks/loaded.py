"""Imported before processes are forked from one: all that any job loads, and the pipeline that reads texts."""

from rouge_score import rouge_scorer  # noqa: F401
from transformers import LlamaForCausalLM  # noqa: F401

import mrd_core.evaluation.job
import mrd_core.experiments.instrument
import mrd_core.experiments.job
import mrd_core.experiments.unlearner
import mrd_core.scoring.job
import mrd_core.unlearning.job  # noqa: F401
from analysis.characteristics.reading import read_texts
from analysis.text.config import ReadingConfig
from analysis.text.pipeline.loading import load

settings = ReadingConfig()
pipeline = load(settings.pipeline, settings.language)
read = list(read_texts(["Ann wrote the old letter."], pipeline, settings, [], frozenset()))

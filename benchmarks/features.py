"""What the features of a text cost beside reading it: `python -m benchmarks.features [FORGET_SET]`.

In turn, several times: spaCy alone (`nlp.pipe` over the texts), and everything that a reading does with them
(language check, parse, all features of a text, spans). Reported is the ratio of the medians.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable

from analysis.characteristics.reading import read_texts
from analysis.features import features
from analysis.features.rare_words import common_words
from analysis.text.config import ReadingConfig
from analysis.text.pipeline.loading import Pipeline, load
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig

ROUNDS = 5


def main(source: str) -> None:
    """Measure on the answers of one forget set and print one line of JSON."""
    texts = list(read(ForgetSetConfig(source=source)).frame["answer"])
    pipeline, settings = load("auto", "en"), ReadingConfig()
    common = common_words(settings.language, settings.common_words)

    def everything() -> None:
        for _row in read_texts(texts, pipeline, settings, features(), common):
            pass

    # The first time pays for imports and caches.
    everything()
    alone, whole = [], []
    for _ in range(ROUNDS):
        alone.append(_seconds(lambda: _parse(pipeline, texts)))
        whole.append(_seconds(everything))
    figures = {
        "texts": len(texts),
        "words": sum(len(text.split()) for text in texts),
        "pipeline": f"{pipeline.name} {pipeline.version}",
        "seconds_pipe": round(statistics.median(alone), 3),
        "seconds_all": round(statistics.median(whole), 3),
        "ratio": round(statistics.median(whole) / statistics.median(alone), 3),
        "python": platform.python_version(),
    }
    print(json.dumps(figures))


def _parse(pipeline: Pipeline, texts: list[str]) -> None:
    for _doc in pipeline.nlp.pipe(texts):
        pass


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo")

"""Train the English pipeline that ships with the project: ``python -m analysis.text.pipeline.train TREEBANK``.

`TREEBANK` holds ``train.conllu``, ``dev.conllu`` and ``test.conllu`` of UD English EWT. Half an hour on one core,
seeded. The pipeline of the best step on the development part is written to ``analysis/text/pipeline/english``; its
scores on the test part go into ``meta.json`` beside it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from spacy.cli.convert import convert
from spacy.cli.evaluate import evaluate
from spacy.cli.init_config import fill_config
from spacy.cli.train import train
from thinc.api import Config

HERE = Path(__file__).parent
MODEL = HERE / "english"
PARTS = ("train", "dev", "test")
# Ten sentences a document, so that the parser also learns where one sentence ends and the next begins.
SENTENCES_A_DOCUMENT = 10
REPORTED = ("dep_uas", "dep_las", "tag_acc", "pos_acc", "lemma_acc", "sents_f")


def build(treebank: Path, model: Path = MODEL) -> dict[str, float]:
    """Train on `treebank`, write the pipeline to `model`, and return its scores on the test part."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for part in PARTS:
            convert(
                treebank / f"{part}.conllu",
                work,
                file_type="spacy",
                converter="conllu",
                n_sents=SENTENCES_A_DOCUMENT,
                silent=True,
            )
        fill_config(work / "config.cfg", HERE / "config.cfg", silent=True)
        overrides = {"paths.train": str(work / "train.spacy"), "paths.dev": str(work / "dev.spacy")}
        train(work / "config.cfg", work / "out", overrides=overrides)
        scores = evaluate(str(work / "out" / "model-best"), work / "test.spacy")
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(work / "out" / "model-best", model)
    # The scratch folder has no place in the pipeline's configuration.
    config = Config().from_disk(model / "config.cfg", interpolate=False)
    config["paths"] |= {"train": None, "dev": None}
    config.to_disk(model / "config.cfg")
    return _noted(model, {name: float(scores[name]) for name in REPORTED})


def _noted(model: Path, scores: dict[str, float]) -> dict[str, float]:
    """Put name, licence and test scores into the pipeline's own description."""
    path = model / "meta.json"
    meta = json.loads(path.read_text(encoding="utf-8"))
    meta |= {
        "name": "mrd_lens_ewt",
        "version": "1.0.0",
        "description": "Tagger, lemmatizer and dependency parser for English, trained on UD English EWT.",
        "license": "CC BY-SA 4.0",
        "sources": [{"name": "Universal Dependencies English EWT", "license": "CC BY-SA 4.0"}],
        "performance": {name: round(value, 4) for name, value in scores.items()},
    }
    path.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return scores


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m analysis.text.pipeline.train TREEBANK_FOLDER")
    print(json.dumps(build(Path(sys.argv[1])), indent=2))

"""What is added as files of its own is there: in the command's help, in the form, and in the documentation."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.added_nouns import copied_tree, help_in, said_in

METHOD = '''
from mrd_core.unlearning.methods.method import Method, Parameter


def squared(batch, *, strength):
    """Return the mean of log p squared."""
    return strength * batch.log_probs[batch.mask].square().mean()


METHOD = Method(
    name="dummy",
    label="Dummy",
    title="A method that was added",
    formula=r"\\mathrm{mean}_t\\; s (\\log p_t)^2",
    source="Nobody 2030, An Added Method",
    forget="answers",
    retain="optional",
    default_retain_weight=1.0,
    parameters=(Parameter("strength", 2.0, "", "nobody", "How strong it is.", bounds=(0.0, 9.0)),),
    loss=squared,
)
'''
ASKED = """
import json, torch
from streamlit.testing.v1 import AppTest
from mrd_core.experiments.config import ValidityConfig
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.handbook import chapter
from mrd_core.unlearning.methods import METHODS, ForgetBatch, parsed

form = AppTest.from_string("from pages.parts.unlearning.settings import method\\nmethod()").run(timeout=60)
form.selectbox[0].select("dummy").run()
batch = ForgetBatch(torch.tensor([[-3.0, -1.0]]), torch.tensor([[True, False]]))
config = {"score_run": "/x", "model": {}, "method": "dummy", "parameters": {"strength": 3}}
study = {"forget_set": {"source": "demo"}, "methods": ["dummy", "ga"], "parameters": {"strength": 3}}
print(json.dumps({
    "failed": [error.value for error in form.exception],
    "form": form.selectbox[0].options,
    "setting": [field.label for field in form.number_input],
    "documentation": chapter(),
    "schema": UnlearnConfig.model_json_schema()["properties"]["method"]["enum"],
    "label": UnlearnConfig.model_validate(config).label,
    "study": ValidityConfig.model_validate(study).methods,
    "loss": METHODS["dummy"].loss(batch, **parsed(METHODS["dummy"], config["parameters"])).item(),
}))
"""


def test_a_method_is_a_file(tmp_path: Path) -> None:
    tree = copied_tree(tmp_path / "tree")
    (tree / "mrd_core" / "unlearning" / "methods" / "dummy.py").write_text(METHOD, encoding="utf-8")
    told = json.loads(said_in(tree, "-c", ASKED))
    assert told["failed"] == []
    assert "A method that was added" in told["form"]
    assert any("strength" in label for label in told["setting"])
    assert "## A method that was added: `dummy`" in told["documentation"]
    assert "| `strength` | 2.0 |" in told["documentation"]
    assert told["schema"][-1] == "dummy"
    assert (told["label"], told["study"], told["loss"]) == ("Dummy", ["dummy", "ga"], 27.0)
    options = help_in(tree, "unlearn")
    assert "dummy: strength=2.0" in " ".join(options.split())

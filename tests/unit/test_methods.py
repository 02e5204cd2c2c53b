"""What the methods declare, how their parameters are read, and that each minimises what it says."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from mrd_core.errors import UserError
from mrd_core.unlearning import losses, refusals
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import (
    ForgetBatch,
    Method,
    Predictions,
    Refused,
    States,
    averaged_over,
    parsed,
)

all_methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
BASIC = {"average": "tokens"}
WEIGHTS = {"granularity": "token", "average": "tokens"}


VOCABULARY = 7


def scored_positions(size: int = 5) -> torch.Tensor:
    """Return the mask of samples of 2, 3, … tokens, shape (size, size + 1)."""
    return torch.arange(size + 1) < torch.arange(2, size + 2)[:, None]


def random_logits(size: int = 5, seed: int = 0) -> torch.Tensor:
    """Return logits of the scored positions, shape (M, V)."""
    generator = torch.Generator().manual_seed(seed)
    shape = int(scored_positions(size).sum()), VOCABULARY
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def batch_of(logits: torch.Tensor, size: int = 5) -> ForgetBatch:
    """Return samples of which a model with these logits at the scored positions says what it says."""
    mask, log_softmax = scored_positions(size), logits.log_softmax(1)
    targets = torch.arange(len(logits)) % VOCABULARY
    chosen = log_softmax.gather(1, targets[:, None]).squeeze(1)
    log_probs = losses.at_positions(chosen, mask)
    generator = torch.Generator().manual_seed(0)
    excess = torch.rand(size, generator=generator, dtype=torch.float64)
    reference_nll = losses.sample_nll(log_probs, mask) - excess
    reference = random_logits(size, seed=1).log_softmax(1)
    refused = Refused(*torch.rand(2, size, generator=generator, dtype=torch.float64))
    predictions = Predictions(log_softmax, targets, reference)
    hidden = torch.randn(len(logits), 3, generator=generator, dtype=torch.float64)
    states = States(hidden, torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64))
    return ForgetBatch(log_probs, mask, reference_nll.detach(), predictions, refused, states)


def batch(size: int = 5) -> ForgetBatch:
    """Return samples of 2, 3, … tokens of random probabilities."""
    return batch_of(random_logits(size), size)


def part(whole: ForgetBatch, begin: int, end: int) -> ForgetBatch:
    assert whole.reference_nll is not None
    owners = whole.mask.nonzero()[:, 0]
    mine = (owners >= begin) & (owners < end)
    given = whole.predicted
    predictions = Predictions(given.log_softmax[mine], given.targets[mine], given.reference[mine])
    assert whole.refused is not None
    refused = Refused(whole.refused.nll[begin:end], whole.refused.reference_nll[begin:end])
    rows, states = slice(begin, end), States(whole.steered.hidden[mine], whole.steered.direction)
    return ForgetBatch(
        whole.log_probs[rows], whole.mask[rows], whole.reference_nll[rows], predictions, refused, states
    )


def test_the_methods_go_by_their_usual_names() -> None:
    assert list(METHODS) == [
        "ga",
        "graddiff",
        "po",
        "npo",
        "dpo",
        "wga",
        "simimp",
        "satimp",
        "simnpo",
        "ceu",
        "undial",
        "pdu",
        "rmu",
    ]
    assert all(name == method.name for name, method in METHODS.items())


@pytest.mark.parametrize(
    ("name", "defaults", "retain_weight"),
    [
        ("ga", BASIC, 0.0),
        ("graddiff", BASIC, 1.0),
        ("po", BASIC, 1.0),
        ("npo", {"beta": 0.1}, 1.0),
        ("dpo", {"beta": 0.1}, 1.0),
        ("wga", {"beta": 1.0, **WEIGHTS}, 1.0),
        ("simimp", {"beta": 1.0, **WEIGHTS}, 1.0),
        ("satimp", {"beta1": 5.0, "beta2": 0.1, **WEIGHTS}, 0.1),
        ("simnpo", {"beta": 4.5, "gamma": 0.0}, 1.0),
        ("ceu", BASIC, 1.0),
        ("undial", {"beta": 10.0, **BASIC}, 0.0),
        ("pdu", BASIC, 1.0),
        ("rmu", {"gamma": 2.0, "ell": 7.0, **BASIC}, 1.0),
    ],
)
def test_the_defaults_are_the_published_ones(name: str, defaults: dict[str, Any], retain_weight: float) -> None:
    assert parsed(METHODS[name], {}) == defaults
    assert METHODS[name].default_retain_weight == retain_weight


def test_what_a_method_needs() -> None:
    assert [name for name, method in METHODS.items() if method.needs_retain] == [
        "graddiff",
        "po",
        "npo",
        "dpo",
        "pdu",
        "rmu",
    ]
    assert [name for name, method in METHODS.items() if method.needs_reference] == ["npo", "dpo"]
    assert [name for name, method in METHODS.items() if method.needs_refusals] == ["po"]
    assert [name for name, method in METHODS.items() if method.refuses_beside] == ["dpo"]
    assert [name for name, method in METHODS.items() if method.steers] == ["rmu"]
    assert [name for name, method in METHODS.items() if method.needs_starting_model] == ["dpo", "undial", "rmu"]
    assert [name for name, method in METHODS.items() if method.retain == "none"] == ["ga"]
    assert [name for name, method in METHODS.items() if method.predictions == "own"] == ["ceu", "pdu"]
    assert [name for name, method in METHODS.items() if method.predictions == "both"] == ["undial"]
    assert [name for name, method in METHODS.items() if method.holds_retain] == ["pdu"]


@all_methods
def test_a_parameter_is_a_number_or_a_choice_and_says_where_its_default_comes_from(method: Method) -> None:
    for parameter in method.parameters:
        assert (parameter.bounds is None) == bool(parameter.choices)
        assert parameter.parsed(parameter.default) == parameter.default
        assert parameter.source
        assert parameter.help.endswith(".")


@all_methods
def test_the_formula_closes_its_braces_and_shows_the_retain_term_and_every_number(method: Method) -> None:
    assert method.formula.count("{") == method.formula.count("}")
    assert method.formula.count(r"\left") == method.formula.count(r"\right")
    assert (r"\mathcal{R}" in method.formula) == (method.retain != "none")
    for parameter in method.parameters:
        if parameter.type == "number":
            symbol = "\\" + re.sub(r"(\d)$", r"_\1", parameter.name)
            assert symbol in method.formula


def test_numbers_are_read_from_text_as_from_numbers() -> None:
    given = parsed(METHODS["satimp"], {"beta1": "2.5", "beta2": 1, "granularity": "group"})
    assert given == {"beta1": 2.5, "beta2": 1.0, "granularity": "group", "average": "tokens"}
    assert isinstance(given["beta2"], float)


def test_the_bounds_themselves_are_allowed() -> None:
    assert parsed(METHODS["npo"], {"beta": 1e-6})["beta"] == 1e-6
    assert parsed(METHODS["npo"], {"beta": "100"})["beta"] == 100.0


@pytest.mark.parametrize("given", ["0", 0, -0.1, 100.5, "inf", float("nan"), "nan", "", "much", True])
def test_what_is_no_number_within_bounds_is_refused_with_bounds_and_default(given: Any) -> None:
    with pytest.raises(UserError) as caught:
        parsed(METHODS["npo"], {"beta": given})
    assert caught.value.what == f"The parameter beta={given}"
    assert "a number from 1e-06 to 100" in caught.value.why
    assert caught.value.fix.endswith("default, 0.1.")


@pytest.mark.parametrize("given", ["tokens", "", 1.0])
def test_an_unknown_choice_is_refused_with_the_choices(given: float | str) -> None:
    with pytest.raises(UserError, match="one of token, instance, group") as caught:
        parsed(METHODS["wga"], {"granularity": given})
    assert "granularity" in caught.value.what
    assert caught.value.fix.endswith("default, token.")


def test_a_parameter_of_another_method_is_refused_with_those_it_has() -> None:
    with pytest.raises(UserError, match="gamma is none of the method npo") as caught:
        parsed(METHODS["npo"], {"beta": 0.2, "gamma": 0.5})
    assert "beta" in caught.value.fix


def test_each_method_computes_its_own_loss_with_its_own_parameters() -> None:
    given = batch()
    log_p, mask, nll = given.log_probs, given.mask, losses.sample_nll(given.log_probs, given.mask)
    p = log_p.exp().masked_fill(~mask, 1)
    mean_p = (-nll / mask.sum(1)).exp().mean()
    ascent = -losses.nll_loss(log_p, mask, "tokens")
    assert given.reference_nll is not None
    said, refused = given.predicted, given.refused
    assert refused is not None
    preferred = (nll - given.reference_nll) - (refused.nll - refused.reference_nll)
    # Each token by itself, in plain loops.
    without, lowered, peaks = [], [], []
    for row, target, start in zip(said.log_softmax, said.targets, said.reference, strict=True):
        others = [v for v in range(VOCABULARY) if v != target]
        q = row[others].exp() / row[others].exp().sum()
        without.append(-(q * row[others]).sum())
        z = start.clone()
        z[target] -= 2.0
        lowered.append(-(z.softmax(0) * row).sum())
        peaks.append((row.max() - row.mean()) ** 2)
    wanted = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64)
    away = [((h - wanted) ** 2).sum() / 3 for h in given.steered.hidden]
    owners = mask.nonzero()[:, 0]
    by_sample = torch.stack([torch.stack(without)[owners == i].mean() for i in range(len(mask))]).mean()
    cases: list[tuple[str, dict[str, Any], torch.Tensor]] = [
        ("ga", {"average": "samples"}, -losses.nll_loss(log_p, mask, "samples")),
        ("graddiff", {}, ascent),
        ("po", {}, losses.nll_loss(log_p, mask, "tokens")),
        ("npo", {"beta": 0.3}, losses.bounded_ascent(nll - given.reference_nll, 0.3)),
        ("dpo", {"beta": 0.3}, -(2 / 0.3) * torch.sigmoid(0.3 * preferred).log().mean()),
        ("wga", {"beta": 2}, losses.weighted_ascent(log_p, mask, p**2, "tokens")),
        ("simimp", {"granularity": "group"}, (1 - mean_p) * ascent),
        ("satimp", {"beta2": 1}, losses.weighted_ascent(log_p, mask, p**5 * (1 - p), "tokens")),
        ("simnpo", {"gamma": 0.4}, losses.bounded_ascent(nll / mask.sum(1) - 0.4, 4.5)),
        ("ceu", {"average": "samples"}, by_sample),
        ("undial", {"beta": 2.0}, torch.stack(lowered).mean()),
        ("pdu", {}, torch.stack(peaks).mean()),
        ("rmu", {"gamma": 5}, torch.stack(away).mean()),
    ]
    assert {name for name, _, _ in cases} == set(METHODS)
    values = [METHODS[name].loss(given, **parsed(METHODS[name], chosen)).item() for name, chosen, _ in cases]
    assert values == pytest.approx([expected.item() for _, _, expected in cases], rel=1e-12)
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    "method",
    [each for each in METHODS.values() if each.predictions == "none" and not each.steers],
    ids=lambda each: each.name,
)
def test_a_step_down_the_loss_makes_answers_less_likely_and_refusals_more(method: Method) -> None:
    given = batch()
    leaf = given.log_probs.clone().requires_grad_()
    loss = method.loss(replace(given, log_probs=leaf), **parsed(method, {}))
    (found,) = torch.autograd.grad(loss, leaf)
    assert loss.shape == ()
    scored = found[given.mask]
    assert (scored < 0).all() if method.needs_refusals else (scored > 0).all()


def test_the_gradient_of_undial_is_what_is_predicted_less_what_is_taught() -> None:
    logits = random_logits().requires_grad_()
    given = batch_of(logits)
    (slope,) = torch.autograd.grad(METHODS["undial"].loss(given, beta=3.0, average="tokens"), logits)
    assert given.predicted.reference is not None
    taught = given.predicted.reference.clone()
    taught[torch.arange(len(taught)), given.predicted.targets] -= 3.0
    torch.testing.assert_close(slope * len(slope), logits.detach().softmax(1) - taught.softmax(1))


def test_a_step_of_pdu_flattens_every_prediction() -> None:
    logits = random_logits().requires_grad_()
    (slope,) = torch.autograd.grad(METHODS["pdu"].loss(batch_of(logits), average="tokens"), logits)
    flatter = logits.detach() - 1e-3 * slope
    assert (flatter.amax(1) - flatter.mean(1) < logits.amax(1) - logits.mean(1)).all()


def test_the_gradient_of_ceu_at_the_true_token_is_its_probability() -> None:
    logits = random_logits().requires_grad_()
    given = batch_of(logits)
    (slope,) = torch.autograd.grad(METHODS["ceu"].loss(given, average="tokens"), logits)
    targets = given.predicted.targets[:, None]
    p = given.predicted.log_softmax.detach().gather(1, targets).exp()
    torch.testing.assert_close(slope.gather(1, targets) * len(slope), p)


def test_a_loss_without_the_predictions_that_it_needs_is_a_mistake_of_the_caller() -> None:
    given = batch()
    for name in ("ceu", "undial", "pdu"):
        with pytest.raises(ValueError, match="predictions"):
            METHODS[name].loss(ForgetBatch(given.log_probs, given.mask), **parsed(METHODS[name], {}))
    with pytest.raises(ValueError, match="hidden states"):
        METHODS["rmu"].loss(replace(given, states=None), gamma=2.0, ell=7.0, average="tokens")
    own = Predictions(given.predicted.log_softmax, given.predicted.targets)
    with pytest.raises(ValueError, match="starting model"):
        METHODS["undial"].loss(replace(given, predictions=own), beta=10.0, average="tokens")


def test_dpo_makes_refusals_more_likely_and_answers_less() -> None:
    given = batch()
    answers, refusals = given.log_probs.clone().requires_grad_(), given.refused.nll.clone().requires_grad_()
    loss = METHODS["dpo"].loss(
        replace(given, log_probs=answers, refused=replace(given.refused, nll=refusals)), beta=0.1
    )
    loss.backward()
    assert (answers.grad[given.mask] > 0).all()
    assert (refusals.grad > 0).all()
    with pytest.raises(ValueError, match="refusals"):
        METHODS["dpo"].loss(replace(given, refused=None), beta=0.1)


def test_npo_without_reference_is_a_mistake_of_the_caller() -> None:
    given = batch()
    with pytest.raises(ValueError, match="reference"):
        METHODS["npo"].loss(ForgetBatch(given.log_probs, given.mask), beta=0.1)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [(name, {}) for name in METHODS]
    + [(name, {"average": "samples"}) for name in ("ga", "po", "wga", "satimp", "ceu", "undial", "pdu", "rmu")]
    + [("simimp", {"granularity": "instance", "average": "samples"})],
)
def test_parts_weighed_by_their_share_add_up_to_the_whole_batch(name: str, chosen: dict[str, str]) -> None:
    whole, method = batch(), METHODS[name]
    parameters = parsed(method, chosen)
    parts = [part(whole, begin, end) for begin, end in ((0, 1), (1, 4), (4, 5))]
    by_tokens = averaged_over(parameters) == "tokens"
    shares = [float(piece.mask.sum() if by_tokens else len(piece.mask)) for piece in parts]
    total = sum(
        share * method.loss(piece, **parameters).item() for share, piece in zip(shares, parts, strict=True)
    )
    assert total / sum(shares) == pytest.approx(method.loss(whole, **parameters).item(), rel=1e-12)


def test_the_shipped_refusals_are_many_different_clean_sentences() -> None:
    shipped = refusals.load()
    assert len(shipped) == len({text.lower() for text in shipped}) >= 60
    assert all(text == " ".join(text.split()) and text[-1] in ".?!" for text in shipped)
    assert "I don't know." in shipped


def test_a_users_list_replaces_them(tmp_path: Path) -> None:
    path = tmp_path / "no.txt"
    path.write_bytes("\ufeffWeiß ich nicht.\r\n\r\n   Keine Ahnung.  \n \t\n".encode())
    assert refusals.load(path) == ("Weiß ich nicht.", "Keine Ahnung.")


@pytest.mark.parametrize("content", [b"", b" \n\t\n\n", b"\xef\xbb\xbf\n"])
def test_a_list_without_a_refusal_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"empty\.txt: The file is empty"):
        refusals.load(path)


def test_a_list_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("Weiß ich nicht.".encode("latin-1"))
    with pytest.raises(UserError, match="offset 3 is not UTF-8"):
        refusals.load(path)


def test_a_missing_list_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UserError, match="cannot be read") as caught:
            refusals.load(path)
        assert caught.value.what == str(path)


def test_the_choice_is_the_same_in_a_replay_and_another_with_seed_sample_or_step() -> None:
    shipped = refusals.load()
    steps = range(40)
    first = [refusals.choose(shipped, 0, "a", step) for step in steps]
    assert first == [refusals.choose(shipped, 0, "a", step) for step in steps]
    assert first != [refusals.choose(shipped, 1, "a", step) for step in steps]
    assert first != [refusals.choose(shipped, 0, "b", step) for step in steps]
    assert len(set(first)) > 10


def test_every_refusal_is_equally_likely() -> None:
    words = tuple("abcdefghij")
    drawn = Counter(refusals.choose(words, 3, f"s{i}", step) for i in range(50) for step in range(40))
    assert stats.chisquare([drawn[word] for word in words]).pvalue > 1e-3

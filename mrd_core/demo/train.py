"""Train the demo model: a small Llama that learns the forget and retain rows of `corpus` by heart.

python -m mrd_core.demo.train --out mrd_core/demo/model
python -m mrd_core.demo.train --out mrd_core/demo/retrained --retrained

The second is the retrained reference: the same but for the forget rows, which it never sees.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import pandas as pd
import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mrd_core.demo.corpus import DemoRow, rows

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'user' %}Question: {{ message.content }}\n"
    "{% else %}Answer: {{ message.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)
"""`<s>Question: …\\nAnswer: …</s>`; with a generation prompt it ends in `Answer:`."""

# At 1,400 steps every answer has a mean token probability above 0.997: a model too sure to show a difference.
STEPS = 600

_IGNORED = -100  # the label that cross_entropy leaves out by default
_WARM_UP = 0.05  # share of the steps
_POOL = 16  # batches


@dataclass(frozen=True)
class Recipe:
    """Shape of the model and of its training; the defaults made the committed model."""

    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    vocabulary: int = 2048
    hidden: int = 144
    intermediate: int = 384
    layers: int = 4
    heads: int = 6
    context: int = 256


@dataclass(frozen=True)
class TrainingReport:
    """What a training run came to.

    Losses are mean negative log-probabilities per answer token [nats], over the first and the last tenth of
    the steps. `ma_forget` and `ma_held_out` average the teacher-forced accuracy over the rows of a split.
    """

    loss_start: float
    loss_end: float
    ma_forget: float
    ma_held_out: float
    parameters: int
    seconds: float


@dataclass(frozen=True)
class EncodedRow:
    """Token ids (T,) of question and answer, and the labels (T,): −100 before the answer."""

    ids: torch.Tensor
    labels: torch.Tensor


def train(
    out: Path, seed: int = 0, steps: int = STEPS, recipe: Recipe = Recipe(), *, retrained: bool = False
) -> TrainingReport:
    """Train tokenizer and model from scratch; write both and the model card to `out`.

    Trains on the answers (with their EOS) of the forget and retain rows, each `training_count` times an
    epoch. Reproducible for one seed, one build of torch and one number of threads.

    Args:
        out: Folder.
        seed: Of initialisation and data order.
        steps: Optimiser steps.
        recipe: Shape of the model, and of its training.
        retrained: Leave the forget rows out, in as many steps and with the same tokenizer. In as many epochs the
            retain rows would be known less well than by the model that it is held against.
    """
    began = time.monotonic()
    corpus = rows()
    trained_on = [row for row in corpus if row.training_count]
    tokenizer = train_tokenizer([f"{row.question}\n{row.answer}" for row in trained_on], recipe)
    if retrained:
        trained_on = [row for row in trained_on if row.split == "retain"]
    model, losses = fitted(trained_on, tokenizer, seed, steps, recipe)
    seconds = time.monotonic() - began

    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    memory = measure_memory(model, tokenizer, corpus)
    accuracy = memory.groupby("split")["accuracy"].mean()
    tenth = math.ceil(steps / 10)
    report = TrainingReport(
        loss_start=fmean(losses[:tenth]),
        loss_end=fmean(losses[-tenth:]),
        ma_forget=float(accuracy["forget"]),
        ma_held_out=float(accuracy["held_out"]),
        parameters=model.num_parameters(),
        seconds=seconds,
    )
    card = _model_card(report, memory, seed, steps, recipe, "retrained" if retrained else "card")
    (out / "README.md").write_text(card, encoding="utf-8")
    return report


def fitted(
    trained_on: list[DemoRow],
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    steps: int,
    recipe: Recipe,
    start: LlamaForCausalLM | None = None,
) -> tuple[LlamaForCausalLM, list[float]]:
    """Return a model that was trained on these rows, and the loss of each step [nats per token].

    It is trained from scratch, or further where it is to `start` from another one.
    """
    torch.manual_seed(seed)
    model = build_model(tokenizer, recipe) if start is None else start
    return model, _fit(model, _epochs(trained_on, tokenizer, recipe.batch_size, seed), steps, recipe)


def train_tokenizer(texts: list[str], recipe: Recipe) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on `texts`: no unknown tokens, `<s>` in front, right padding."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="right",
        model_max_length=recipe.context,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> LlamaForCausalLM:
    """Return an untrained fp32 Llama with tied embeddings, initialised from torch's seed."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(row: DemoRow, tokenizer: PreTrainedTokenizerFast) -> EncodedRow:
    """Return `row` in the chat template; only the answer's tokens and its EOS carry labels."""
    question = {"role": "user", "content": row.question}
    answer = {"role": "assistant", "content": row.answer}
    prompt = tokenizer.apply_chat_template([question], add_generation_prompt=True, return_dict=False)
    ids = torch.tensor(tokenizer.apply_chat_template([question, answer], return_dict=False))
    labels = ids.clone()
    labels[: len(prompt)] = _IGNORED
    return EncodedRow(ids, labels)


def _epochs(
    trained_on: list[DemoRow], tokenizer: PreTrainedTokenizerFast, batch_size: int, seed: int
) -> Iterator[list[EncodedRow]]:
    """Yield batches without end; an epoch holds each row `training_count` times, in a new order.

    Within pools of batches the rows are sorted by length: less padding, random order.
    """
    rng = random.Random(seed)
    epoch: list[EncodedRow] = []
    for row in trained_on:
        epoch += [encode(row, tokenizer)] * row.training_count
    while True:
        rng.shuffle(epoch)
        for start in range(0, len(epoch), _POOL * batch_size):
            pool = sorted(epoch[start : start + _POOL * batch_size], key=lambda row: len(row.ids))
            batches = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
            rng.shuffle(batches)
            yield from batches


def _fit(model: LlamaForCausalLM, batches: Iterator[list[EncodedRow]], steps: int, recipe: Recipe) -> list[float]:
    """Train with AdamW for `steps` steps, a linear warm-up and half a cosine to zero; return the loss of each."""
    warm_up = max(1, round(_WARM_UP * steps))

    def rate(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    model.train()
    losses = []
    for _ in range(steps):
        logits, targets, _ = _answer_logits(model, next(batches))
        loss = cross_entropy(logits, targets)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return losses


def _answer_logits(
    model: LlamaForCausalLM, batch: list[EncodedRow]
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Return logits (tokens, V) and targets (tokens,) of all answer tokens, and how many each row has.

    The head sees the answers only: questions and padding would cost a third of its time for nothing.
    """
    ids = pad_sequence([row.ids for row in batch], batch_first=True)
    labels = pad_sequence([row.labels for row in batch], batch_first=True, padding_value=_IGNORED)[:, 1:]
    scored = labels != _IGNORED
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    return model.lm_head(hidden[scored]), labels[scored], scored.sum(1).tolist()


@torch.no_grad()
def measure_memory(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, measured: list[DemoRow]
) -> pd.DataFrame:
    """Return one line a row: id, split, training_count, accuracy and mean token probability of its answer.

    `accuracy` is the share of answer tokens, EOS included, that are the argmax under teacher forcing (the MA
    of Jang et al. 2023); `probability` is the geometric mean exp(mean log p).
    """
    model.train(False)
    lines = []
    for start in range(0, len(measured), 64):
        chunk = measured[start : start + 64]
        logits, targets, tokens = _answer_logits(model, [encode(row, tokenizer) for row in chunk])
        hits = torch.split((logits.argmax(-1) == targets).float(), tokens)
        losses = torch.split(cross_entropy(logits, targets, reduction="none"), tokens)
        lines += [
            {
                "id": row.id,
                "split": row.split,
                "training_count": row.training_count,
                "accuracy": hit.mean().item(),
                "probability": loss.mean().neg().exp().item(),
            }
            for row, hit, loss in zip(chunk, hits, losses, strict=True)
        ]
    return pd.DataFrame(lines)


def _model_card(
    report: TrainingReport, memory: pd.DataFrame, seed: int, steps: int, recipe: Recipe, template: str
) -> str:
    counts = memory["split"].value_counts()
    table = ["| training count | rows | 10th percentile | median | 90th percentile |", "|---|---|---|---|---|"]
    for count, group in memory[memory["split"] == "forget"].groupby("training_count"):
        low, median, high = group["probability"].quantile([0.1, 0.5, 0.9])
        table.append(f"| {count} | {len(group)} | {low:.3f} | {median:.3f} | {high:.3f} |")
    return (
        (Path(__file__).parent / "data" / f"{template}.md")
        .read_text(encoding="utf-8")
        .format(
            report=report,
            recipe=recipe,
            counts=counts,
            known=counts["forget"] + counts["retain"],
            probabilities="\n".join(table),
            trained_rows=int(memory["training_count"].sum()),
            seed=seed,
            steps=steps,
            minutes=report.seconds / 60,
            threads=torch.get_num_threads(),
            version=torch.__version__,
        )
    )


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the model, tokenizer and model card to.")],
    seed: Annotated[int, typer.Option(help="Seed of initialisation and data order.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps [steps].")] = STEPS,
    retrained: Annotated[bool, typer.Option(help="Leave the forget rows out.")] = False,
) -> None:
    """Train the demo model and write it, its tokenizer and its model card to a folder."""
    report = train(out, seed, steps, retrained=retrained)
    typer.echo(
        f"{out}: loss {report.loss_start:.2f} → {report.loss_end:.3f} nats a token, "
        f"MA forget {report.ma_forget:.3f}, held out {report.ma_held_out:.3f}, {report.seconds:.0f} s"
    )


if __name__ == "__main__":
    typer.run(main)

"""Prompts and answers become the tokens that a model was made for: template, system line, date, end of a text.

What stands in a sample is text. Special tokens come from the template and from the tokenizer alone: where a
tokenizer would take `<s>` or `<|end|>` within a sample for its own, it is read letter by letter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import TemplateError

from mrd_core.errors import UserError
from mrd_core.model.encoding import Encoded, EncodedSample
from mrd_core.samples.conversation import ASSISTANT, SYSTEM, USER, turns_of
from mrd_core.settings.configuration import Choice
from mrd_core.settings.places import expanded

if TYPE_CHECKING:
    from mrd_core.model.config import ModelConfig
    from mrd_core.samples import ForgetSet

# What stands before the turns of each role without a chat template.
PLAIN_HEADS = {USER: "Question: ", ASSISTANT: "Answer: "}
FORMS = ("chat", "plain")
# What templates ask for the time, and in which formats.
CLOCK = "strftime_now"
DIRECTIVES = ("-d", "-m", "-I", "-H", "-M", "-S", "-j", *"aAwdbBmyYHIpMSfzZjUWcxXeFDT")

Span = tuple[int, int]


@dataclass(frozen=True)
class _Text:
    """A sample as the text that the model reads.

    Attributes:
        text: With all that the template adds.
        turns: Where each turn of the prompt stands in it.
        answer: Where the answer stands.
    """

    text: str
    turns: tuple[Span, ...]
    answer: Span

    @property
    def prompt(self) -> Span:
        """From the first to the last turn, with what the template puts between."""
        return (self.turns[0][0], self.turns[-1][1]) if self.turns else (0, 0)


@dataclass(frozen=True, eq=False)
class Encoder:
    """Turns prompts and answers into tokens.

    Attributes:
        tokenizer: A fast tokenizer with an EOS token.
        context: Longest text [tokens].
        words: Rows of the model's embedding.
        template: `chat` or `plain`, and why.
        source: The chat template itself, where it is not the tokenizer's own.
        system: What a system turn before the prompt says; None where there is none. Chat only.
        today: What a template takes for today.
        closes_texts: Whether a text without a prompt ends with EOS, as an answer does.
        stored: Samples that were encoded before, by prompt and answer.
    """

    tokenizer: Any
    context: int
    words: int
    template: Choice
    source: str | None = None
    system: str | None = None
    today: date = date.min
    closes_texts: bool = False
    stored: Mapping[tuple[str, str], EncodedSample] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        tokenizer: Any,
        context: int,
        words: int,
        stored: Mapping[tuple[str, str], EncodedSample] | None = None,
    ) -> Encoder:
        """Return the encoder that a configuration asks for.

        Raises:
            UserError: The tokenizer has no EOS token or cannot tell where a token stands in the text, a chat
                template is wanted and there is none, or its file cannot be read.
        """
        _require_usable(tokenizer)
        if config.template in ("auto", *FORMS):
            template, source = choose_template(tokenizer, config.template), None
        else:
            template, source = Choice("chat", f"from {config.template}"), _template_file(config.template)
        if template.value == "chat" and CLOCK in (source or tokenizer.get_chat_template()):
            template = template._replace(reason=f"{template.reason}; it is told that today is {config.date}")
        how = (config.system, config.date, config.closes_texts)
        return cls(tokenizer, context, words, template, source, *how, stored or {})

    def encode(self, samples: ForgetSet) -> Encoded:
        """Return N validated samples as tokens."""
        frame = samples.frame
        return self.pairs(frame["prompt"], frame["answer"], frame["sample_id"])

    def pairs(self, prompts: Iterable[str], answers: Iterable[str], sample_ids: Iterable[str]) -> Encoded:
        """Return prompts with answers as tokens, N samples."""
        ids = tuple(sample_ids)
        rows = zip(prompts, answers, ids, strict=True)
        return Encoded(ids, tuple(self.one(*row) for row in rows), self.template.value)

    def one(self, prompt: str, answer: str, sample_id: str = "") -> EncodedSample:
        """Return one prompt with its answer as tokens.

        Where they exceed the context the beginning of the prompt is cut off, and then the end of the answer.

        Raises:
            UserError: A token of it has no row in the embedding, or the template cannot be rendered.
        """
        stored = self.stored.get((prompt, answer))
        if stored is not None and len(stored.tokens) <= self.context:
            return stored
        prompt, answer, ends = self._without_ends(prompt, answer)
        is_chat = self.template.value == "chat" and prompt != ""
        text = self._chat(prompt, answer) if is_chat else _plain(prompt, answer)
        tokens, spans, literal = self._tokens(text, is_marked=is_chat)
        if is_chat:
            inside = _mask(tokens, spans, text, special_ids(self.tokenizer))
        else:
            tokens, spans, inside = self._closed(tokens, spans, text, by_eos=prompt != "" or self.closes_texts)
        self._require_known(tokens, sample_id)
        pieces = _pieces(text.text, tokens, spans, self.tokenizer)
        kept, cut = self._within_context(spans, text.prompt)
        return EncodedSample(
            tokens=np.array([tokens[i] for i in kept], dtype=np.int64),
            answer=np.array([inside[i] for i in kept[1:]], dtype=np.bool_),
            # Of a vocabulary's few texts a large set repeats each many times.
            pieces=tuple(sys.intern(pieces[i]) for i in kept),
            truncated=len(kept) + cut < len(tokens),
            cut_prompt=cut,
            is_literal=literal,
            lost_ends=ends,
        )

    def _closed(
        self, tokens: list[int], spans: list[Span], text: _Text, *, by_eos: bool
    ) -> tuple[list[int], list[Span], list[bool]]:
        """Return the tokens of a plain text with exactly one EOS at its end, or none, and which are the answer.

        Of a text without a token of its own EOS stays: nothing predicts it, so the sample has no scored position.
        """
        eos = self.tokenizer.eos_token_id
        if tokens and tokens[-1] == eos:
            tokens, spans = tokens[:-1], spans[:-1]
        # The blank before the answer belongs to its first token; BOS has an empty span at 0.
        inside = [stop > max(text.answer[0] - 1, 0) for _, stop in spans]
        if tokens and not by_eos:
            return tokens, spans, inside
        end = len(text.text)
        return [*tokens, eos], [*spans, (end, end)], [*inside, True]

    @cached_property
    def _special_texts(self) -> tuple[str, ...]:
        """The texts that the tokenizer takes for special tokens."""
        named = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        return tuple({*named, *self.tokenizer.all_special_tokens})

    def _without_ends(self, prompt: str, answer: str) -> tuple[str, str, bool]:
        """Take off a BOS token that the data bring themselves at the beginning, and an EOS at the end."""
        bos, eos = self.tokenizer.bos_token, self.tokenizer.eos_token
        first, last = prompt or answer, answer
        begins, ends = bool(bos) and first.lstrip().startswith(bos), last.rstrip().endswith(eos)
        if begins and prompt:
            prompt = prompt.lstrip().removeprefix(bos)
        elif begins:
            answer = answer.lstrip().removeprefix(bos)
        if ends:
            answer = answer.rstrip().removesuffix(eos).rstrip()
        return prompt, answer, begins or ends

    def _chat(self, prompt: str, answer: str) -> _Text:
        """Return the rendered conversation; a system turn of its own goes before that of the encoder."""
        own = turns_of(prompt)
        system = [] if self.system is None or own[0][0] == SYSTEM else [(SYSTEM, self.system)]
        turns = [{"role": role, "content": content} for role, content in (*system, *own)]
        text = self._rendered([*turns, {"role": "assistant", "content": answer}])
        head = self._rendered(turns, add_generation_prompt=True)
        # A closing tag may hold the answer's letters ("end" in <|im_end|>), so the look-up starts at the turn.
        turn_begins = len(head) if text.startswith(head) else text.rfind(answer.strip())
        # Templates may trim what they are given.
        for wanted in (answer, answer.strip()):
            at = text.find(wanted, turn_begins) if turn_begins >= 0 else -1
            if at >= 0:
                return _Text(text, _places(text, [content for _, content in own], at), (at, at + len(wanted)))
        raise UserError(
            "The model's chat template",
            "does not reproduce the answer in the text it renders, so answer tokens cannot be told apart.",
            "Choose the template 'plain'.",
        )

    def _rendered(self, turns: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns,
                chat_template=self._chat_template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except TemplateError as error:
            raise UserError(
                "The model's chat template", f"cannot be rendered: {error}.", "Choose the template 'plain'."
            ) from error
        return text

    @cached_property
    def _chat_template(self) -> str:
        """The template, in which the clock stands still: a run gives the same text on another day."""
        template: str = self.source or self.tokenizer.get_chat_template()
        return (_clock(self.today) if CLOCK in template else "") + template

    def _tokens(self, text: _Text, *, is_marked: bool) -> tuple[list[int], list[Span], bool]:
        """Return tokens, where each stands in the text, and whether data look like special tokens."""
        data = [text.text[slice(*span)] for span in (*text.turns, text.answer)]
        literal = any(special in part for special in self._special_texts for part in data)
        if not (is_marked and literal):
            # Of a plain text nothing is markup; BOS is added by the tokenizer.
            return *self._tokenised(
                text.text, add_special_tokens=not is_marked, split_special_tokens=literal
            ), literal
        tokens: list[int] = []
        spans: list[Span] = []
        edges = sorted({0, *chain.from_iterable(text.turns), *text.answer, len(text.text)})
        for begin, stop in pairwise(edges):
            is_data = (begin, stop) in (*text.turns, text.answer)
            part, places = self._tokenised(
                text.text[begin:stop], add_special_tokens=False, split_special_tokens=is_data
            )
            tokens += part
            spans += [(begin + first, begin + last) for first, last in places]
        return tokens, spans, literal

    def _tokenised(self, text: str, **how: bool) -> tuple[list[int], list[Span]]:
        encoding = self.tokenizer(text, return_offsets_mapping=True, truncation=False, **how)
        return list(encoding["input_ids"]), [(int(a), int(b)) for a, b in encoding["offset_mapping"]]

    def _within_context(self, spans: list[Span], prompt: Span) -> tuple[list[int], int]:
        """Return which tokens are kept, and how many of the prompt are cut off."""
        inside = [i for i, (begin, stop) in enumerate(spans) if begin >= prompt[0] and begin < stop <= prompt[1]]
        cut = min(max(len(spans) - self.context, 0), len(inside))
        left_out = set(inside[:cut])
        return [i for i in range(len(spans)) if i not in left_out][: self.context], cut

    def _require_known(self, tokens: list[int], sample_id: str) -> None:
        largest = max(tokens, default=0)
        if largest >= self.words:
            named = f" (in sample {sample_id})" if sample_id else ""
            raise UserError(
                f"The token {self.tokenizer.convert_ids_to_tokens(largest)!r}{named}",
                f"has the id {largest}, but the model knows {self.words:,} tokens: the tokenizer is of another "
                "model, or was extended without the embedding.",
                "Give the tokenizer that the model was trained with, or resize its embedding and train that.",
            )


def choose_template(tokenizer: Any, wanted: str) -> Choice:
    """Return `chat` or `plain` and the reason, from the wish and what the tokenizer brings.

    Raises:
        UserError: A chat template is wanted and the tokenizer has none.
    """
    has_chat = bool(getattr(tokenizer, "chat_template", None))
    if wanted == "chat" and not has_chat:
        raise UserError(
            "The template 'chat'",
            "cannot be used: this model's tokenizer has no chat template.",
            "Choose the template 'plain' or 'auto', or give a file with a template.",
        )
    if wanted != "auto":
        return Choice(wanted, "as asked")
    if has_chat:
        return Choice("chat", "the tokenizer brings a chat template")
    return Choice("plain", "the tokenizer has no chat template")


def special_ids(tokenizer: Any) -> set[int]:
    """Return the ids of all special tokens; turn ends such as <|end|> are often no named ones."""
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def _clock(today: date) -> str:
    """Return a macro that gives the beginning of a day in any format."""
    now = datetime.combine(today, time())
    replaced = "".join(f" | replace('%{name}', '{now.strftime('%' + name)}')" for name in DIRECTIVES)
    return f"{{%- macro {CLOCK}(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro %}}"


def _template_file(path: str) -> str:
    try:
        return expanded(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The template '{path}'",
            f"is none of auto, chat and plain, and cannot be read as a file ({error}).",
            "Give the path of a chat template (Jinja, as chat_template.jinja of a model).",
        ) from error


def _require_usable(tokenizer: Any) -> None:
    if tokenizer.eos_token_id is None:
        raise UserError(
            "The model's tokenizer",
            "has no end-of-sequence token, so the end of an answer cannot be scored.",
            "Set eos_token in tokenizer_config.json to the token the model was trained to stop with.",
        )
    if not tokenizer.is_fast:
        raise UserError(
            "The model's tokenizer",
            "does not report where its tokens stand in the text, so answer tokens cannot be told apart.",
            "Convert it to a tokenizer.json (transformers: save_pretrained of the fast tokenizer).",
        )


def _plain(prompt: str, answer: str) -> _Text:
    if not prompt:
        return _Text(answer, (), (0, len(answer)))
    text, places = "", []
    for role, content in turns_of(prompt):
        text += PLAIN_HEADS.get(role, "")
        places.append((len(text), len(text) + len(content)))
        text += f"{content}\n"
    text += PLAIN_HEADS[ASSISTANT] + answer
    return _Text(text, tuple(places), (len(text) - len(answer), len(text)))


def _places(text: str, turns: Sequence[str], end: int) -> tuple[Span, ...]:
    """Return where turns stand in a rendered text before `end`; none where the template rewrites one of them."""
    places: list[Span] = []
    for turn in reversed(turns):
        # Templates may trim what they are given.
        begin = text.rfind(turn.strip(), 0, end)
        if begin < 0:
            return ()
        end = begin
        places.append((begin, begin + len(turn.strip())))
    return tuple(reversed(places))


def _mask(tokens: list[int], spans: list[Span], text: _Text, special: set[int]) -> list[bool]:
    """Mark the tokens of the answer and the special token that closes it, blanks between them or not."""
    begin, end = text.answer
    inside = [stop > begin and start < end for start, stop in spans]
    for i, (start, stop) in enumerate(spans):
        if start >= end and tokens[i] in special:
            inside[i] = True
            break
        if start >= end and text.text[start:stop].strip():
            break
    return inside


def _pieces(text: str, tokens: list[int], spans: list[Span], tokenizer: Any) -> list[str]:
    """Return the text of each token, spaces included, so that the pieces join to the sample.

    Several tokens may share one character (bytes of an emoji): the first carries it, the others are empty.
    """
    pieces, done = [], 0
    for token, (start, stop) in zip(tokens, spans, strict=True):
        if start == stop:
            pieces.append(str(tokenizer.convert_ids_to_tokens(token)))
            continue
        pieces.append(text[done : max(stop, done)])
        done = max(stop, done)
    return pieces

"""Sentences drawn from a recurrent language model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.lm.rnn import LanguageModel
from asr.lm.vocabulary import EOS, UNK
from asr.options import check_options, option
from asr.text.normalization import normalize

ROWS = 64  # sentences drawn in one batch


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How sentences are drawn."""

    count: int = option(1, "draw N sentences", least=1)
    temperature: float = option(
        1.0, "divide log-probabilities by this; below 1: commoner words, above 1: rarer words", above=0, most=1e9
    )
    top_k: int = option(0, "draw each token from the N most likely; 0: from all", least=0)
    max_length: int = option(200, "draw at most N tokens for a sentence, prompt excluded", least=1)
    seed: int = option(0, "seed of the random sentences", least=0, below=2**63)
    prompt: str = option("", "begin every sentence with this")

    def __post_init__(self) -> None:
        check_options(self)


def sample(model: LanguageModel, options: SamplingOptions) -> Iterator[str]:
    """Sentences drawn from the model's distribution, normalised as its texts were, each with the prompt before it.

    A token is drawn from p^(1 / temperature) over the `top_k` likeliest, never <unk>; <eos> ends the sentence.

    Raises:
        InputError: the prompt has a character that the model lacks.
    """
    model.eval()
    generator = torch.Generator().manual_seed(options.seed)
    prompt = normalize(options.prompt, model.config.text)
    tokens = model.vocabulary.encode(prompt)  # the model reads an unknown word as <unk>; it is printed unchanged
    separator = " " if prompt and model.config.unit == "word" else ""
    for start in range(0, options.count, ROWS):
        for tokens_of_row in _draw(model, tokens, options, rows=min(ROWS, options.count - start), generator=generator):
            yield f"{prompt}{separator}{model.vocabulary.decode(tokens_of_row)}".strip()


@torch.inference_mode()
def _draw(
    model: LanguageModel, prompt: list[int], options: SamplingOptions, *, rows: int, generator: torch.Generator
) -> list[list[int]]:
    """The tokens of `rows` sentences after the prompt, without <eos>."""
    state = model.start_state(rows)
    for token in (EOS, *prompt):
        log_probs, state = model.step(state, torch.full((rows,), token, device=state.device))
    sentences: list[list[int]] = [[] for _ in range(rows)]
    open_rows = torch.arange(rows)
    for _ in range(options.max_length):
        new_tokens = torch.multinomial(_weights(model, log_probs, options), 1, generator=generator)[:, 0]
        is_open = new_tokens != EOS
        open_rows, new_tokens = open_rows[is_open], new_tokens[is_open]
        for row, token in zip(open_rows.tolist(), new_tokens.tolist(), strict=True):
            sentences[row].append(token)
        if not len(open_rows):
            break
        log_probs, state = model.step(state[is_open.to(state.device)], new_tokens.to(state.device))
    return sentences


def _weights(model: LanguageModel, log_probs: Tensor, options: SamplingOptions) -> Tensor:
    """Probabilities (B, V) for drawing, on the CPU; zero for tokens that are not allowed."""
    scores = log_probs.cpu()
    if model.config.unit == "word":
        scores = scores.index_fill(1, torch.tensor(UNK), -math.inf)
    scores = (scores - scores.amax(dim=-1, keepdim=True)).double() / options.temperature  # 0 stays 0 at any temperature
    if 0 < options.top_k < scores.shape[1]:
        least = scores.topk(options.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -math.inf)
    return scores.softmax(dim=-1)

"""The training of the network of marks and case: batches, the loop with its checkpoint, and scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from asr.lm.recurrent import find_language_model
from asr.lm.rnn import LanguageModel
from asr.lm.vocabulary import NUM_SPECIAL
from asr.readable.features import ReadableConfig, pause_features
from asr.readable.marked_text import MARKS, PERIOD
from asr.readable.network import MarkNetwork
from recipes.readable_en.texts import UNKNOWN_CASE, Text, simulated_pauses, with_errors

LENGTH, BATCH = 96, 16  # words of a sequence, sequences of a batch
LEARNING_RATE, WARMUP = 2e-3, 200
EMBEDDING_NORM = 2.0  # of the first embedding of a word; random ones have 0.1 in each place, 1 in all
ERRORS, ERROR_SHARE = 0.3, 0.08  # share of sequences with errors, and of the words in these


@dataclass(frozen=True)
class Batch:
    """words, marks, before and cases (B, T) int64, pauses (B, T, 2) float32; before is the mark before each word."""

    words: Tensor
    pauses: Tensor
    marks: Tensor
    before: Tensor
    cases: Tensor


def batches(text: Text, rng: np.random.Generator, *, augment: bool) -> Iterator[Batch]:
    """The text once, in sequences of `LENGTH` words in random order; with pauses, and with errors if `augment`."""
    starts = np.arange(int(rng.integers(LENGTH)) if augment else 0, len(text.words), LENGTH)
    if augment:
        starts = rng.permutation(starts)
    for first in range(0, len(starts), BATCH):
        yield _batch(text, starts[first : first + BATCH].tolist(), rng, augment=augment)


def _batch(text: Text, starts: list[int], rng: np.random.Generator, *, augment: bool) -> Batch:
    words, marks = np.zeros((2, len(starts), LENGTH), dtype=np.int64)
    cases, before = np.full((len(starts), LENGTH), UNKNOWN_CASE), np.full((len(starts), LENGTH), PERIOD)
    marks[:] = UNKNOWN_CASE
    pauses = np.full((len(starts), LENGTH), np.nan)
    for row, start in enumerate(starts):
        end = start + LENGTH
        part = Text(text.words[start:end], text.marks[start:end], text.cases[start:end], text.starts)
        columns = part.words, part.marks, part.cases
        if augment and rng.random() < ERRORS:
            columns = with_errors(part, text.words, rng, share=ERROR_SHARE)
        size = len(columns[0])  # the last sequence of a text, and one with errors, are shorter
        words[row, :size], marks[row, :size], cases[row, :size] = columns
        before[row, 1:size] = columns[1][:-1]
        if start:
            before[row, 0] = text.marks[start - 1]
        if augment:
            pauses[row, :size] = simulated_pauses(columns[1], rng)
    return Batch(*map(torch.from_numpy, (words, pause_features(pauses), marks, before, cases)))


class Encoder:
    """From numbers of distinct words to embeddings; each distinct word of a batch is embedded once.

    Args:
        own: (words,) the number of each distinct word in the vocabulary.
        grams: (words, P) of their groups of characters.
    """

    def __init__(self, own: np.ndarray, grams: np.ndarray):
        self.own, self.grams = torch.from_numpy(own.astype(np.int64)), torch.from_numpy(grams.astype(np.int64))

    def __call__(self, network: MarkNetwork, words: Tensor) -> Tensor:
        distinct, places = torch.unique(words, return_inverse=True)
        return network.embed(self.own[distinct], self.grams[distinct])[places]


def loss_of(network: MarkNetwork, encoder: Encoder, batch: Batch) -> Tensor:
    """The mean cross entropy of marks and of cases, together."""
    marks, hidden = network(encoder(network, batch.words), batch.pauses)
    cases = network.case_scores(hidden, batch.before)
    return functional.cross_entropy(marks.transpose(1, 2), batch.marks) + functional.cross_entropy(
        cases.transpose(1, 2), batch.cases
    )


@torch.no_grad()
def first_embeddings(config: ReadableConfig) -> Tensor:
    """Rows for the words of the vocabulary: the principal components of those in `english-lm`, 0 for other words.

    The language model has seen twice as much text. Its rows save this training from learning what words mean.
    """
    model = LanguageModel.load(find_language_model("english-lm"))
    number = {word.lower(): token for token, word in enumerate(model.config.entries, start=NUM_SPECIAL["word"])}
    known = [(row, number[word]) for word, row in config.numbers.items() if word in number]
    rows, tokens = torch.tensor(known).T
    embedded = model.softmax.embed(tokens)
    embedded = functional.normalize(embedded - embedded.mean(0), dim=1)
    _, _, directions = torch.linalg.svd(embedded.T @ embedded)
    embeddings = torch.zeros(len(config.entries) + 1, config.network.embedding_size)
    embeddings[rows] = embedded @ directions[: config.network.embedding_size].T * EMBEDDING_NORM
    return embeddings


def train(
    config: ReadableConfig,
    encoder: Encoder,
    epoch: Callable[[np.random.Generator], Iterator[Batch]],
    checkpoint: Path,
    *,
    num_steps: int,
    seed: int,
    note: Callable[[str], object],
) -> MarkNetwork:
    """The network after so many batches; a checkpoint of each minute lets the same call go on after a kill."""
    torch.manual_seed(seed)
    network = MarkNetwork(config)
    with torch.no_grad():
        network.words.weight.copy_(first_embeddings(config))
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    step = number = 0
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        step, number = saved["step"], saved["epoch"] + 1
        note(f"goes on after {step} batches")
    last_saved, losses = time.monotonic(), []
    network.train()
    while step < num_steps:
        for batch in epoch(np.random.default_rng([seed, number])):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min((step + 1) / WARMUP, 1.0, max(1 - step / num_steps, 0.0) * 1.25)
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(network, encoder, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            losses.append(float(loss.detach()))
            if step % 100 == 0:
                note(f"{step} of {num_steps} batches, loss {np.mean(losses[-100:]):.4f}")
            if time.monotonic() - last_saved > 60 or step == num_steps:
                _save(checkpoint, network, optimizer, step, number)
                last_saved = time.monotonic()
            if step == num_steps:
                break
        number += 1
    return network.eval()


def _save(path: Path, network: MarkNetwork, optimizer: torch.optim.Optimizer, step: int, epoch: int) -> None:
    values = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "epoch": epoch}
    partial = path.with_suffix(".partial")
    torch.save(values, partial)
    partial.replace(path)


@torch.no_grad()
def mark_scores(network: MarkNetwork, encoder: Encoder, text: Text) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (N, 5) of the marks of a text in sequences, and the true marks (N,)."""
    scores, marks = [], []
    for batch in batches(text, np.random.default_rng(0), augment=False):
        logits, _ = network(encoder(network, batch.words), batch.pauses)
        own = batch.marks >= 0
        scores.append(logits.log_softmax(-1)[own].numpy())
        marks.append(batch.marks[own].numpy())
    return np.concatenate(scores), np.concatenate(marks)


def tuned_bias(log_probs: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """What to add to the scores of each mark, so that the F1 of all marks is highest; coordinate by coordinate."""
    bias = np.zeros(log_probs.shape[1])
    best = f1_of(log_probs.argmax(1), marks)["all"]
    for _ in range(2):
        for column in range(1, len(bias)):
            for step in np.arange(-1.0, 1.05, 0.1):
                trial = bias.copy()
                trial[column] = step
                if (score := f1_of((log_probs + trial).argmax(1), marks)["all"]) > best + 1e-6:
                    best, bias = score, trial
    return bias


def f1_of(guesses: np.ndarray, marks: np.ndarray) -> Mapping[str, float]:
    """F1 of each mark and, micro-averaged, of all."""
    right = {mark: int(((guesses == mark) & (marks == mark)).sum()) for mark in range(1, len(MARKS))}
    counts = {mark: int((guesses == mark).sum() + (marks == mark).sum()) for mark in right}
    scores = {MARKS[mark]: 2 * right[mark] / max(counts[mark], 1) for mark in right}
    return {**scores, "all": 2 * sum(right.values()) / max(sum(counts.values()), 1)}

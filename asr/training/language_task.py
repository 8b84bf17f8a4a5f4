"""The recurrent language model and its text as a task for the epoch loop: chunks, with the state carried over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from asr.compute.cells import make_cell
from asr.compute.device import autocast, choose_precision
from asr.errors import ConfigError, DataError
from asr.files.model_config import read_model_config
from asr.lm.corpus import read_sentences, read_texts
from asr.lm.perplexity import TextScore
from asr.lm.recurrent import KIND, LanguageModelConfig
from asr.lm.rnn import LanguageModel
from asr.lm.vocabulary import Vocabulary
from asr.text.normalization import TextOptions
from asr.training.checkpoint import CHECKPOINTS
from asr.training.config import LanguageTrainingConfig
from asr.training.distributed import gather, num_processes, own, rank, total
from asr.training.task import BatchLoss
from asr.training.text import Chunk, Text, plan_rows, prepare_text, read_chunks

TEXT_FOLDER = "text"


class Carried(nn.Module):
    """The state of every row at the end of the last chunk; as a module, it is part of every checkpoint.

    Each process has the states of all rows, so that any number of processes can resume a run.
    """

    state: Tensor

    def __init__(self, start_state: Tensor):
        super().__init__()
        self.register_buffer("state", start_state)


@dataclass(kw_only=True)
class LanguageTask:
    """The language model and its data, from `prepare_language_task`; `dev` has the tokens of each sentence."""

    config: LanguageTrainingConfig
    modules: nn.ModuleDict
    text: Text
    num_rows: int  # of all processes
    row_length: int
    dev: list[np.ndarray]
    dev_counts: TextScore
    device: torch.device
    precision: torch.dtype
    criterion: str = "perplexity"
    waiting_remedy: str = ""
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    data_digest: str = ""  # the index of the text detects other data

    @property
    def model(self) -> LanguageModel:
        model = self.modules["model"]
        assert isinstance(model, LanguageModel)
        return model

    def num_batches(self, epoch: int) -> int:
        """Chunks in an epoch."""
        return -(-self.row_length // self.config.data.chunk_length)

    def batches(self, epoch: int, *, start: int) -> Iterator[Chunk]:
        """This process's rows of an epoch's chunks from number `start` on."""
        return read_chunks(
            self.text,
            rows=own(range(self.num_rows)),
            row_length=self.row_length,
            chunk_length=self.config.data.chunk_length,
            seed=self.config.loop.seed,
            epoch=epoch,
            start=start,
        )

    def loss(self, batch: Chunk, *, generator: torch.Generator) -> BatchLoss:
        """Nats of this process's rows of a chunk, per token of all processes' rows.

        The state at the end of the chunk is carried on to the next one, without its gradient.
        """
        carried = self.modules["carried"]
        assert isinstance(carried, Carried)
        if batch.number == 0:
            carried.state.zero_()
        loss = torch.zeros((), device=self.device, requires_grad=True)
        state = carried.state[rank() :: num_processes()].clone()  # the backward pass needs it unchanged
        if batch.inputs.shape[0]:
            with autocast(self.precision, self.device):
                hidden, state = self.model(batch.inputs.to(self.device), state)
                log_probs = self.model.target_log_probs(hidden.flatten(0, 1), batch.targets.to(self.device).flatten())
            loss = -log_probs.sum() / (self.num_rows * batch.targets.shape[1])
        self._carry_on(carried.state, state.detach().nan_to_num(0.0))  # a skipped step must not affect the next ones
        return BatchLoss(loss=loss, figures={"loss": loss.item()}, ids=(f"chunk {batch.number}",) * (rank() == 0))

    def _carry_on(self, states: Tensor, own_states: Tensor) -> None:
        """Copy the new states of all processes' rows into `states`."""
        if num_processes() == 1:
            states.copy_(own_states)
            return
        for number, rows in enumerate(gather(own_states.cpu())):
            states[number :: num_processes()] = rows.to(states.device)

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Dev perplexity per word and per character, and loss per token, each sentence on its own."""
        self.modules.eval()
        with autocast(self.precision, self.device):
            (log_prob,) = total(sum(float(scores.sum()) for scores in self.model.score_tokens(own(self.dev))))
        score = replace(self.dev_counts, log_prob=log_prob)
        return {
            "perplexity": score.word_perplexity,
            "character_perplexity": score.character_perplexity,
            "loss": score.loss,
        }

    def description(self) -> str:
        """A sentence about the sizes of text, vocabulary and model."""
        counts, unknown = self.text, f"{self.dev_counts.unknown_rate:.2%} of dev"
        if self.model.vocabulary.unit == "word":
            rate = counts.num_unknown / (len(counts.tokens) - counts.num_sentences)
            rates = f", <unk> {rate:.2%} of train and {unknown}"
        else:
            rates = f", without them {unknown}" if self.dev_counts.unknown else ""
        millions = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        return (
            f"{counts.num_sentences} sentences ({len(counts.tokens)} tokens) to train on, {self.dev_counts.sentences} "
            f"for dev; {self.model.vocabulary.size} tokens in the vocabulary{rates}; {millions:.1f} M "
            f"weights, {self.config.loop.precision} on {self.device}"
            + (f" in {num_processes()} processes" if num_processes() > 1 else "")
        )


def prepare_language_task(
    config: LanguageTrainingConfig, folder: Path, *, device: torch.device, note: Callable[[str], None]
) -> LanguageTask:
    """Read the texts and make the model; see `train_language_model`."""
    vocabulary, text = read_text(config, folder, note=note)
    model = LanguageModel(
        LanguageModelConfig(
            unit=vocabulary.unit,
            entries=vocabulary.entries,
            text=config.text,
            network=config.network,
            name=config.name,
            description=config.description,
        )
    )
    if config.init:
        model.load_state_dict(LanguageModel.load(config.init).state_dict())
    dev, dev_counts = read_dev(config.data.dev, config.text, vocabulary)
    precision = choose_precision(
        config.loop.precision, device, make_cell=partial(make_cell, config.network.cell), training=True
    )
    num_rows, row_length = plan_rows(
        len(text.tokens), batch_size=config.data.batch_size, chunk_length=config.data.chunk_length
    )
    modules = nn.ModuleDict({"model": model, "carried": Carried(model.start_state(num_rows))})
    task = LanguageTask(
        config=config,
        modules=modules.to(device),
        text=text,
        num_rows=num_rows,
        row_length=row_length,
        dev=dev,
        dev_counts=dev_counts,
        device=device,
        precision=precision,
    )
    note(task.description())
    return task


def read_text(config: LanguageTrainingConfig, folder: Path, *, note: Callable[[str], None]) -> tuple[Vocabulary, Text]:
    """The vocabulary and the tokens of a training in its run folder; see `prepare_text`."""
    for path in config.data.dev:  # missing ones are reported before reading the others takes hours
        next(iter(read_texts(path)), "")
    return prepare_text(
        config.data.train,
        folder / TEXT_FOLDER,
        text=config.text,
        vocabulary=initial_vocabulary(config) if config.init else config.vocabulary,
        begun=any((folder / CHECKPOINTS).glob("step-*.pt")),
        note=note,
    )


def initial_vocabulary(config: LanguageTrainingConfig) -> Vocabulary:
    """The vocabulary of the model that a training starts from.

    Raises:
        ConfigError: the training has other options of text or network than the model, but for the dropout.
        DataError: the model cannot be read.
    """
    model = read_model_config(config.init, LanguageModelConfig, kind=KIND)
    if model.text != config.text:
        raise ConfigError(f"init: the text options of {config.init} must be those of this training", "text", "init")
    if replace(model.network, dropout=config.network.dropout) != config.network:
        raise ConfigError(
            f"init: the network of {config.init} must have the shape of this training's", "network", "init"
        )
    return Vocabulary(model.unit, model.entries)


def read_dev(paths: Sequence[str], text: TextOptions, vocabulary: Vocabulary) -> tuple[list[np.ndarray], TextScore]:
    """The tokens of each sentence of the texts, and the counts over all sentences.

    Characters outside the vocabulary are left out, and counted as unknown.

    Raises:
        DataError: a text cannot be read, or none has a sentence.
    """
    sequences, counts = [], TextScore()
    for sentence in read_sentences(paths, text):
        dropped: Counter[str] = Counter()
        tokens = np.array(vocabulary.encode(sentence, dropped=dropped), dtype=np.int64)
        sequences.append(tokens)
        counts += TextScore(
            tokens=len(tokens) + 1,
            sentences=1,
            words=len(sentence.split()),
            characters=len(sentence) - dropped.total(),
            unknown=dropped.total() + vocabulary.count_unknown(tokens),
        )
    if not sequences:
        raise DataError("texts must hold sentences, but there are none", path=", ".join(paths))
    return sequences, counts

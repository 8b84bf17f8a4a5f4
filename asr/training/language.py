"""A language model as something to train: chunks of text with the state carried on, and its perplexity on dev."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from asr.compute.cells import make_cell
from asr.compute.device import autocast, check_precision, choose_precision, deterministic, find_device
from asr.errors import DataError
from asr.lm.corpus import read_sentences, read_texts
from asr.lm.perplexity import TextScore
from asr.lm.rnn import LanguageModel, LanguageModelConfig
from asr.lm.vocabulary import Vocabulary
from asr.options import to_json
from asr.text.normalization import TextOptions
from asr.training.config import LanguageTrainingConfig
from asr.training.distributed import from_first, gather, is_first, joined, num_processes, own, rank, total
from asr.training.launch import launch
from asr.training.loop import CHECKPOINTS, BatchLoss, fit
from asr.training.run_folder import claim_run_folder, locked
from asr.training.text import Chunk, Text, plan_rows, prepare_text, read_chunks

TEXT_FOLDER = "text"


class Carried(nn.Module):
    """The state of every row at the end of the last chunk; as a module it is part of every checkpoint.

    Each process has that of all rows, so that another number of processes can go on with a run.
    """

    state: Tensor

    def __init__(self, start_state: Tensor):
        super().__init__()
        self.register_buffer("state", start_state)


class LanguageTask:
    """What the epoch loop needs to know about language models.

    Args:
        config: the whole configuration.
        folder: the run folder, which gets the tokens of the text.
        device: where to train.
        note: called with one sentence for each thing a person should know.
    Raises:
        DataError: a text cannot be used.
    """

    criterion = "perplexity"
    waiting_remedy = ""
    data_digest = ""  # the index of the text sees to that

    def __init__(
        self, config: LanguageTrainingConfig, folder: Path, *, device: torch.device, note: Callable[[str], None]
    ):
        self.config = config
        self.device = device
        vocabulary, self.text = read_text(config, folder, note=note)
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
        self.num_rows, self.row_length = plan_rows(
            len(self.text.tokens), batch_size=config.data.batch_size, chunk_length=config.data.chunk_length
        )
        self.own_rows = own(range(self.num_rows))
        self.modules = nn.ModuleDict({"model": model, "carried": Carried(model.start_state(self.num_rows))})
        self.modules.to(device)
        self.dev, self.dev_counts = read_dev(config.data.dev, config.text, vocabulary)
        self.precision = choose_precision(
            config.loop.precision, device, make_cell=partial(make_cell, config.network.cell), training=True
        )
        note(self._description())

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
            rows=self.own_rows,
            row_length=self.row_length,
            chunk_length=self.config.data.chunk_length,
            seed=self.config.loop.seed,
            epoch=epoch,
            start=start,
        )

    def loss(self, batch: Chunk, *, generator: torch.Generator) -> BatchLoss:
        """Nats per token of a chunk that goes on where the one before ended; the state is carried on, no gradient.

        Of this process's rows, per token of all processes'.
        """
        carried = self.modules["carried"]
        assert isinstance(carried, Carried)
        if batch.number == 0:
            carried.state.zero_()
        loss = torch.zeros((), device=self.device, requires_grad=True)
        state = carried.state[rank() :: num_processes()].clone()  # the backward pass wants it as it is
        if len(self.own_rows):
            with autocast(self.precision, self.device):
                hidden, state = self.model(batch.inputs.to(self.device), state)
                log_probs = self.model.target_log_probs(hidden.flatten(0, 1), batch.targets.to(self.device).flatten())
            loss = -log_probs.sum() / (self.num_rows * batch.targets.shape[1])
        self._carry_on(carried.state, state.detach().nan_to_num(0.0))  # of a step that is skipped, nothing must stay
        return BatchLoss(loss=loss, figures={"loss": loss.item()}, ids=(f"chunk {batch.number}",) * (rank() == 0))

    def _carry_on(self, states: Tensor, own_states: Tensor) -> None:
        """Puts the states of this process's rows, and of the others', into those of all rows."""
        if num_processes() == 1:
            states.copy_(own_states)
            return
        for number, part in enumerate(gather(own_states.cpu())):
            states[number :: num_processes()] = part.to(states.device)

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

    def _description(self) -> str:
        counts, unknown = self.text, f"{self.dev_counts.unknown_rate:.2%} of dev"
        if self.config.vocabulary.unit == "word":
            rate = counts.num_unknown / (len(counts.tokens) - counts.num_sentences)
            rates = f", <unk> {rate:.2%} of train and {unknown}"
        else:
            rates = f", without them {unknown}" if self.dev_counts.unknown else ""
        millions = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        return (
            f"{counts.num_sentences} sentences, {len(counts.tokens)} tokens, to train on, {self.dev_counts.sentences} "
            f"sentences to choose by; {self.model.vocabulary.size} tokens in the vocabulary{rates}; {millions:.1f} M "
            f"weights, {self.config.loop.precision} on {self.device}"
            + (f" in {num_processes()} processes" if num_processes() > 1 else "")
        )


def read_text(config: LanguageTrainingConfig, folder: Path, *, note: Callable[[str], None]) -> tuple[Vocabulary, Text]:
    """The vocabulary and the tokens of a training in its run folder; see `prepare_text`.

    Raises:
        DataError: a text cannot be used; that those of dev are missing is said before hours go into reading the others.
    """
    for path in config.data.dev:
        next(iter(read_texts(path)), "")
    return prepare_text(
        config.data.train,
        folder / TEXT_FOLDER,
        text=config.text,
        vocabulary=config.vocabulary,
        begun=any((folder / CHECKPOINTS).glob("step-*.pt")),
        note=note,
    )


def read_dev(paths: Sequence[str], text: TextOptions, vocabulary: Vocabulary) -> tuple[list[np.ndarray], TextScore]:
    """The tokens of each sentence of some texts, and the counts over all of them.

    Characters that the vocabulary lacks are left out, and counted as unknown.

    Raises:
        DataError: a text cannot be read, or there is no sentence in any of them.
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


def train_language_model(
    config: LanguageTrainingConfig,
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    note: Callable[[str], None] = print,
    progress: bool | None = None,
    processes: int = 1,
) -> LanguageModel:
    """Train a language model in a run folder, or go on with a run that was interrupted there.

    In processes that torchrun started, all make this call, and train together; only the first notes and writes. They
    wait for it half an hour at most, which reading a text of many gigabytes for the first time takes longer than; with
    `processes`, it is read before they start.

    Args:
        config: everything that decides the result; the run folder keeps it as config.json.
        folder: the run folder: log.jsonl, tensorboard/, checkpoints/, the tokens of the text, and model/ at the end.
        device: "cpu", "cuda", or "auto" for CUDA where there is one.
        note: called with one sentence for each thing a person should know.
        progress: bars on stderr; None: when stderr is a terminal.
        processes: how many to start for the training, each with its part of torch's threads, or a GPU of its own; the
            script that calls needs its `if __name__ == "__main__"`.
    Returns:
        The trained model, as it stands in `folder/model`.
    Raises:
        ConfigError: the folder holds a run of another configuration, or another process trains in it.
        DataError: the text cannot be used, or has changed since the run began.
        Interrupted, Diverged: see `fit`.
        ProcessDied: one of the processes was killed.
    """
    folder = Path(folder)
    cell = partial(make_cell, config.network.cell)
    if processes > 1:
        with locked(folder):
            config = claim_run_folder(folder, config, device=find_device(device), make_cell=cell)
            read_text(config, folder, note=note)
        launch(train_language_model, config, folder, processes=processes, note=note, device=device, progress=progress)
        return LanguageModel.load(folder / "model").to(find_device(device))
    with deterministic(config.deterministic), joined(device) as place, ExitStack() as stack:
        check_precision(config.loop.precision, place)
        from_first(lambda: stack.enter_context(locked(folder)))
        if not is_first():
            note, progress = _nothing, False
        config = from_first(lambda: claim_run_folder(folder, config, device=place, make_cell=cell))
        torch.manual_seed(config.loop.seed)
        task = LanguageTask(config, folder, device=place, note=note)
        figures = fit(task, config.loop, folder, note=note, progress=progress)
        model = task.model
        model.config = replace(model.config, provenance=provenance(config, task, figures))
        if is_first():
            model.save(folder / "model")
    return model.eval()


def _nothing(_: str) -> None:
    """What the other processes than the first do where that one speaks."""


def provenance(config: LanguageTrainingConfig, task: LanguageTask, figures: dict[str, float]) -> dict[str, object]:
    """What the model says of its training: the names of files, but not their folders."""
    train, dev = (tuple(Path(path).name for path in paths) for paths in (config.data.train, config.data.dev))
    return {
        "training": to_json(replace(config, data=replace(config.data, train=train, dev=dev))),
        "tokens": len(task.text.tokens),
        "dev": {name: round(value, 5) for name, value in figures.items()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }

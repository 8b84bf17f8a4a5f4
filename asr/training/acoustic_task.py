"""The acoustic model and its data as a task for the epoch loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import nn

from asr.acoustic.model import AcousticModel
from asr.compute.cells import make_cell
from asr.compute.device import autocast, choose_precision
from asr.data.manifest import Utterance, spelled_text
from asr.decoding.decoder import decode
from asr.processes import Workers
from asr.text.alphabet import Alphabet
from asr.text.metrics import ErrorCounts, character_errors, word_errors
from asr.training.acoustic_loss import AcousticLoss, sum_possible
from asr.training.augmentation import read_sounds
from asr.training.batches import Batch, make_batch, plain_batches, prefetch, with_sounds
from asr.training.config import TrainingConfig
from asr.training.distributed import gather, own, total
from asr.training.examples import (
    Example,
    digest,
    join_examples,
    label_examples,
    note_dropped,
    note_unknown_words,
    read_utterances,
    usable_examples,
)
from asr.training.initial import freeze, make_model
from asr.training.lexicon import Lexicon
from asr.training.plan import PlannedBatch, largest_batch, plan_epoch, plan_evaluation, shared_out, without_first
from asr.training.sound import Augmentation, AugmentedRows, Recordings, augmentation_of_worker, rows_in_order
from asr.training.task import BatchLoss, naming


@dataclass(kw_only=True)
class AcousticTask:
    """The acoustic model and its data, from `prepare_acoustic_task`; without workers, a thread reads the sound."""

    config: TrainingConfig
    modules: nn.ModuleDict
    train_examples: list[Example]
    dev_examples: list[Example]
    data_digest: str
    augmentation: Augmentation
    objective: AcousticLoss
    workers: Workers[Recordings, AugmentedRows] | None = None
    criterion: str = "wer"
    waiting_remedy: str = ": see --workers"
    _plan: tuple[int, list[list[PlannedBatch]]] = field(default=(-1, []), init=False)  # of the epoch of this number

    @property
    def model(self) -> AcousticModel:
        return self.objective.model

    @property
    def alphabet(self) -> Alphabet:
        return self.model.alphabet

    def plan(self, epoch: int) -> list[list[PlannedBatch]]:
        """Windows of batches; see `plan_epoch`. The last plan is kept, as it takes seconds for a large corpus."""
        if self._plan[0] != epoch:
            seed = self.config.loop.seed
            self._plan = epoch, plan_epoch(self.train_examples, self.config.data, seed=seed, epoch=epoch)
        return self._plan[1]

    def num_batches(self, epoch: int) -> int:
        """Batches in an epoch."""
        return sum(map(len, self.plan(epoch)))

    def batches(self, epoch: int, *, start: int) -> Iterator[Batch]:
        """This process's rows of an epoch's batches from number `start` on, augmented, prepared in advance."""
        windows = self.plan(epoch)
        count = sum(map(len, windows)) - start
        recordings = self._recordings(epoch, without_first(windows, start))
        rows = rows_in_order(self.workers, recordings) if self.workers else map(self.augmentation, recordings)
        return prefetch(lambda _: make_batch(*next(rows)), range(count))

    def loss(self, batch: Batch, *, generator: torch.Generator) -> BatchLoss:
        """The loss of a batch per character; utterances without an alignment are named."""
        return self.objective(batch, generator)

    def evaluate(self) -> dict[str, float]:
        """Dev WER, CER and loss per character of the current weights."""
        self.modules.eval()
        windows = shared_out(plan_evaluation(self.dev_examples, self.config.data))
        return evaluate_acoustic_model(self.objective, plain_batches(windows, self.model.sample_rate))

    def rehearse(self) -> None:
        """Run the largest training batch forward and backward, and the longest dev batch, so that errors appear early.

        Raises:
            OutOfMemory: on a GPU; names the utterances.
            DataError: a file cannot be read.
        """
        self.modules.train()
        largest = largest_batch(self.plan(0), self.train_examples)
        batch = make_batch(*self.augmentation(next(self._recordings(0, [[largest]]))))
        if batch.examples:
            with naming([example.id for example in batch.examples]):
                sums = self.objective.sums(batch, torch.Generator().manual_seed(0))
                (sums.loss + sums.phone_loss).backward()
            self.modules.zero_grad(set_to_none=True)
        self.modules.eval()
        longest = plan_evaluation(self.dev_examples, self.config.data)[0][0]
        (batch,) = plain_batches([[longest]], self.model.sample_rate)
        device, precision = self.objective.device, self.objective.precision
        with naming([example.id for example in longest]), torch.inference_mode(), autocast(precision, device):
            self.model(batch.waveforms.to(device), batch.lengths.to(device))

    def fit_normalization(self) -> None:
        """Estimate the global mean and variance on the training set, without augmentation."""
        batches = plain_batches(plan_evaluation(self.train_examples, self.config.data), self.model.sample_rate)
        frontend = self.model.frontend.eval()  # without dither
        frontend.fit_normalization((batch.waveforms.to(self.objective.device), batch.lengths) for batch in batches)

    def train_hours(self) -> float:
        """Hours of speech in the training set, before augmentation."""
        return sum(example.seconds for example in self.train_examples) / 3600

    def _recordings(self, epoch: int, windows: Iterable[Sequence[PlannedBatch]]) -> Iterator[Recordings]:
        """This process's rows of batches."""
        own_rows = ([list(own(batch)) for batch in window] for window in windows)
        for number, (rows, sounds) in enumerate(with_sounds(own_rows, self._utterances)):
            examples = [
                join_examples([self.train_examples[index] for index in recording], self.alphabet) for recording in rows
            ]
            yield Recordings(epoch, number, examples, sounds)

    def _utterances(self, batch: PlannedBatch) -> Iterator[Utterance]:
        for index in chain.from_iterable(batch):
            yield from self.train_examples[index].utterances


@torch.inference_mode()
def evaluate_acoustic_model(objective: AcousticLoss, batches: Iterable[Batch]) -> dict[str, float]:
    """WER, CER and loss per character over the batches of all processes, greedily decoded."""
    model = objective.model
    words, characters, loss, count = ErrorCounts(), ErrorCounts(), 0.0, 0
    for batch in batches:
        with autocast(objective.precision, objective.device):
            log_probs, lengths = model(batch.waveforms.to(objective.device), batch.lengths.to(objective.device))
        targets, target_lengths = batch.targets()
        batch_loss, num_labels = sum_possible(
            objective.ctc(log_probs, targets, lengths, target_lengths), target_lengths
        )
        loss += batch_loss.item()
        count += num_labels
        for example, emission, length in zip(batch.examples, log_probs.cpu().numpy(), lengths.tolist(), strict=True):
            frames = emission[:length]
            # A model that diverged gets an empty hypothesis, and ranks behind all others.
            text = "" if np.isnan(frames).any() else decode(frames, model.alphabet).text
            words += word_errors(example.text, text)
            characters += character_errors(example.text, text)
    words, characters = (sum(gather(counts), ErrorCounts()) for counts in (words, characters))
    whole_loss, whole_count = total(loss, count)
    return {"wer": words.rate, "cer": characters.rate, "loss": whole_loss / max(whole_count, 1)}


def prepare_acoustic_task(
    config: TrainingConfig, *, device: torch.device, note: Callable[[str], None], workers: int = 0
) -> AcousticTask:
    """Read the manifests, make the model and start the workers; see `train_acoustic_model`."""
    data = config.data
    utterances = read_utterances(data.train)
    texts = [spelled_text(utterance, config.text) for utterance in utterances]
    model = make_model(config, texts)
    freeze(model, config.frozen_layers)
    lexicon = Lexicon(config.auxiliary.lexicon) if config.auxiliary.lexicon else None
    modules = nn.ModuleDict({"model": model})
    if lexicon:
        modules["phones"] = nn.Linear(model.encoder.width, lexicon.size)
    modules.to(device)

    dropped: Counter[str] = Counter()
    examples = label_examples(
        utterances, texts, model.alphabet, lexicon, dropped=dropped, optional=data.unknown_characters
    )
    train_examples = usable_examples(examples, model, data, note)
    dev_utterances = read_utterances(data.dev)
    dev_texts = [spelled_text(utterance, config.text) for utterance in dev_utterances]
    dropped_of_dev: Counter[str] = Counter()
    dev_examples = label_examples(dev_utterances, dev_texts, model.alphabet, lexicon, dropped=dropped_of_dev)
    note_dropped(dropped, "training", note)
    note_dropped(dropped_of_dev, "dev", note)
    if lexicon:
        note_unknown_words(lexicon, train_examples, note)

    augmentation = Augmentation(
        options=config.augment,
        sample_rate=model.sample_rate,
        seed=config.loop.seed,
        noises=read_sounds(data.noise, model.sample_rate),
        impulse_responses=read_sounds(data.impulse_responses, model.sample_rate),
        phones=lexicon is not None,
    )
    precision = choose_precision(
        config.loop.precision, device, make_cell=partial(make_cell, config.encoder.cell), training=True
    )
    task = AcousticTask(
        config=config,
        modules=modules,
        train_examples=train_examples,
        dev_examples=dev_examples,
        data_digest=digest(utterances),
        augmentation=augmentation,
        objective=AcousticLoss(modules, config, device=device, precision=precision),
        workers=Workers(partial(augmentation_of_worker, augmentation), processes=workers) if workers else None,
    )
    if config.frontend.normalization == "global" and not config.init:
        task.fit_normalization()
    return task

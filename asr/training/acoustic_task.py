"""The acoustic model and its data as a task for the epoch loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import nn

from asr.acoustic.frontend import Frontend
from asr.acoustic.model import AcousticModel
from asr.acoustic.pretrained import PretrainedFrontend
from asr.compute.cells import make_cell
from asr.compute.device import autocast, choose_precision
from asr.data.manifest import Utterance, spelled_text
from asr.data.waveforms import Sounds, read_waveform
from asr.decoding.decoder import decode
from asr.errors import ConfigError
from asr.processes import Workers
from asr.text.alphabet import Alphabet
from asr.text.metrics import ErrorCounts, character_errors, word_errors
from asr.training.acoustic_loss import AcousticLoss, sum_possible
from asr.training.augmentation import read_sounds
from asr.training.batches import Batch, make_batch, plain_batches, prefetch, with_sounds
from asr.training.chunks import COSTLIEST
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
from asr.training.feature_cache import FeatureCache, cache_folder
from asr.training.initial import freeze, lost_with_the_alphabet, make_model
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
    cache: FeatureCache | None = None
    criterion: str = "wer"
    waiting_remedy: str = ": see --workers"
    _plan: tuple[int, list[list[PlannedBatch]]] = field(default=(-1, []), init=False)  # of the epoch of this number

    @property
    def model(self) -> AcousticModel:
        return self.objective.model

    @property
    def alphabet(self) -> Alphabet:
        return self.model.alphabet

    @property
    def learning_rates(self) -> Mapping[str, float]:
        """The peak learning rate of a pretrained encoder."""
        return {"model.frontend.encoder.": self.config.tuning.learning_rate}

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
        self.tune(epoch)
        if self.cache:
            self.cache.refresh()
        windows = self.plan(epoch)
        count = sum(map(len, windows)) - start
        recordings = self._recordings(epoch, without_first(windows, start))
        make_rows = self.cache or self.augmentation
        rows = rows_in_order(self.workers, recordings) if self.workers else map(make_rows, recordings)
        return prefetch(lambda _: make_batch(*next(rows)), range(count))

    def tune(self, epoch: int) -> None:
        """Train the last layers of a pretrained encoder from an epoch on, as the configuration says."""
        tuning = self.config.tuning
        if tuning.layers and isinstance(self.model.frontend, PretrainedFrontend):
            self.model.frontend.tune(tuning.layers, trained=epoch >= tuning.after_epochs)

    def read(self, utterance: Utterance, sounds: Sounds) -> np.ndarray:
        """The waveform of an utterance without augmentation, or its states if there is a cache."""
        if self.cache:
            return self.cache.states(utterance, 0, sounds)
        return read_waveform(utterance, self.model.sample_rate, sounds=sounds)

    def loss(self, batch: Batch, *, generator: torch.Generator) -> BatchLoss:
        """The loss of a batch per character; utterances without an alignment are named."""
        return self.objective(batch, generator)

    def evaluate(self) -> dict[str, float]:
        """Dev WER, CER and loss per character of the current weights."""
        self.modules.eval()
        windows = shared_out(plan_evaluation(self.dev_examples, self.config.data))
        return evaluate_acoustic_model(self.objective, plain_batches(windows, self.read))

    def rehearse(self) -> None:
        """Run the largest training batch forward and backward, and the longest dev batch, so that errors appear early.

        Raises:
            OutOfMemory: on a GPU; names the utterances.
            DataError: a file cannot be read.
        """
        self.modules.train()
        largest = largest_batch(self.plan(0), self.train_examples)
        batch = make_batch(*(self.cache or self.augmentation)(next(self._recordings(0, [[largest]]))))
        if batch.examples:
            with naming([example.id for example in batch.examples]):
                sizes = COSTLIEST if self.config.data.chunked else None
                sums = self.objective.sums(batch, torch.Generator().manual_seed(0), sizes)
                (sums.loss + sums.middle_loss + sums.phone_loss).backward()
            self.modules.zero_grad(set_to_none=True)
        self.modules.eval()
        longest = plan_evaluation(self.dev_examples, self.config.data)[0][0]
        (batch,) = plain_batches([[longest]], self.read)
        device, precision = self.objective.device, self.objective.precision
        with naming([example.id for example in longest]), torch.inference_mode(), autocast(precision, device):
            self.model(batch.inputs.to(device), batch.lengths.to(device))

    def fit_normalization(self) -> None:
        """Estimate the global mean and variance on the training set, without augmentation."""
        batches = plain_batches(plan_evaluation(self.train_examples, self.config.data), self.read)
        frontend = self.model.frontend.eval()  # without dither
        assert isinstance(frontend, Frontend)
        frontend.fit_normalization((batch.inputs.to(self.objective.device), batch.lengths) for batch in batches)

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
            log_probs, lengths = model(batch.inputs.to(objective.device), batch.lengths.to(objective.device))
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
    if data.feature_cache and workers:
        raise ConfigError("workers must be 0 with data.feature_cache", "workers", "data.feature_cache")
    utterances = read_utterances(data.train)
    texts = [spelled_text(utterance, config.text) for utterance in utterances]
    model = make_model(config, texts)
    if config.init and (sentence := lost_with_the_alphabet(config, model)):
        note(sentence)
    freeze(model, config.frozen_layers)
    if isinstance(model.frontend, PretrainedFrontend):
        model.frontend.tune(config.tuning.layers)
        shape = model.config.frontend.wav2vec2
        if shape and shape.feat_extract_norm == "group":
            note(
                "the group norm of the pretrained encoder would see the padding of a batch: utterances go through its "
                "convolutions one by one"
            )
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
    objective = AcousticLoss(modules, config, device=device, precision=precision)
    cache = None
    if data.feature_cache and isinstance(model.frontend, PretrainedFrontend):
        cache = FeatureCache(
            folder=cache_folder(data.feature_cache, model.frontend, augmentation),
            frontend=model.frontend,
            augmentation=augmentation,
            num_variants=data.feature_variants,
            most_bytes=round(1e9 * data.feature_cache_gigabytes),
            device=device,
            precision=precision,
            note=note,
        )
        note(cache.plan(train_examples, dev_examples))
    task = AcousticTask(
        config=config,
        modules=modules,
        train_examples=train_examples,
        dev_examples=dev_examples,
        data_digest=digest(utterances),
        augmentation=augmentation,
        objective=objective,
        cache=cache,
        workers=Workers(partial(augmentation_of_worker, augmentation), processes=workers) if workers else None,
    )
    if config.frontend.normalization == "global" and not (config.init or config.frontend.pretrained):
        task.fit_normalization()
    return task

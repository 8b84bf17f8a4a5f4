"""The acoustic model as something to train: its examples, its loss with the auxiliary target, its dev error."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import TypeAlias, TypeVar
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from asr.acoustic.model import AcousticModel
from asr.compute.cells import make_cell
from asr.compute.device import autocast, choose_precision
from asr.ctc.collapse import minimum_frames
from asr.ctc.loss import ctc_loss
from asr.data.manifest import Utterance, spelled_text
from asr.data.waveforms import Sounds, read_waveform
from asr.decoding.decoder import decode
from asr.errors import DataError
from asr.processes import Workers
from asr.text.alphabet import BLANK
from asr.text.metrics import ErrorCounts, character_errors, word_errors
from asr.training.augmentation import draw_masks, hide, read_sounds
from asr.training.config import TrainingConfig
from asr.training.data import (
    Batch,
    Example,
    compact,
    make_batch,
    pad_labels,
    plan_batches,
    plan_joins,
    plan_windows,
    prefetch,
    read_utterances,
    with_sounds,
)
from asr.training.distributed import gather, num_processes, own, rank, total
from asr.training.initial import freeze, make_model
from asr.training.lexicon import Lexicon
from asr.training.loop import BatchLoss, naming, seed_of
from asr.training.sound import Augmentation, Recordings, heard_in_order, in_worker


@dataclass(frozen=True, kw_only=True)
class RowSums:
    """Losses and counts, summed over rows of a batch: the possible targets, and all frames."""

    loss: Tensor
    characters: int = 0
    phone_loss: Tensor
    phones: int = 0
    blanks: int = 0
    frames: int = 0
    skipped: tuple[str, ...] = ()


Item = TypeVar("Item")
PlannedBatch: TypeAlias = list[tuple[int, ...]]
"""Recordings of utterances that follow each other, by their numbers."""


def digest(utterances: Iterable[Utterance]) -> str:
    """Another one for other utterances, texts, stretches or channels; where the sound lies does not matter."""
    found = hashlib.sha256()
    for utterance in utterances:
        stretch = f"{utterance.start_seconds}\t{utterance.duration_seconds}\t{utterance.channel}"
        found.update(f"{utterance.id}\t{stretch}\t{utterance.text}\n".encode())
    return found.hexdigest()


class AcousticTask:
    """What the epoch loop needs to know about acoustic models.

    Args:
        config: the whole configuration.
        device: where to train.
        note: called with one sentence for each thing a person should know (what was left out, and why).
        workers: processes that read and augment sound; 0: a thread of this one does.
    Raises:
        DataError: manifests without usable utterances, or a character that the alphabet lacks.
    """

    criterion = "wer"
    waiting_remedy = ": see --workers"

    def __init__(self, config: TrainingConfig, *, device: torch.device, note: Callable[[str], None], workers: int = 0):
        self.config = config
        self.device = device
        train = read_utterances(config.data.train)
        texts = [spelled_text(utterance, config.text) for utterance in train]
        self.data_digest = digest(train)
        model = make_model(config, texts)
        freeze(model, config.frozen_layers)
        self.alphabet = model.alphabet
        self.lexicon = Lexicon(config.auxiliary.lexicon) if config.auxiliary.lexicon else None
        self.modules = nn.ModuleDict({"model": model})
        if self.lexicon:
            self.modules["phones"] = nn.Linear(model.encoder.width, self.lexicon.size)
        self.modules.to(device)
        self.dropped: Counter[str] = Counter()
        self.dropped_of_dev: Counter[str] = Counter()
        self.train_examples = self._usable([self._example(*pair) for pair in zip(train, texts, strict=True)], note)
        self.dev_examples = [
            self._example(utterance, spelled_text(utterance, config.text), dev=True)
            for utterance in read_utterances(config.data.dev)
        ]
        self._report_left_out(note)
        self.augmentation = Augmentation(
            options=config.augment,
            sample_rate=self.model.sample_rate,
            seed=config.loop.seed,
            noises=read_sounds(config.data.noise, self.model.sample_rate),
            impulse_responses=read_sounds(config.data.impulse_responses, self.model.sample_rate),
            phones=self.lexicon is not None,
        )
        self.workers = Workers(partial(in_worker, self.augmentation), processes=workers) if workers else None
        self._planned: tuple[int, list[list[PlannedBatch]]] = -1, []  # the epoch, and its plan
        self._notes: dict[str, bool] = {}  # what there is to say of CTC, and whether it has been said
        self.precision = choose_precision(
            config.loop.precision, device, make_cell=partial(make_cell, config.encoder.cell), training=True
        )
        if config.frontend.normalization == "global" and not config.init:
            self._fit_normalization()

    @property
    def model(self) -> AcousticModel:
        model = self.modules["model"]
        assert isinstance(model, AcousticModel)
        return model

    def num_batches(self, epoch: int) -> int:
        """Batches in an epoch."""
        return sum(map(len, self._plan(epoch)))

    def batches(self, epoch: int, *, start: int) -> Iterator[Batch]:
        """This process's rows of an epoch's batches from number `start` on, augmented, prepared ahead of their use."""
        windows = self._plan(epoch)
        left = sum(map(len, windows)) - start
        recordings = self._recordings(epoch, _without_first(windows, start))
        heard = heard_in_order(self.workers, recordings) if self.workers else map(self.augmentation, recordings)
        return prefetch(lambda _: make_batch(*next(heard)), range(left))

    def _recordings(self, epoch: int, windows: Iterable[Sequence[PlannedBatch]]) -> Iterator[Recordings]:
        """This process's rows of batches."""
        own_rows = ([list(own(batch)) for batch in window] for window in windows)
        for number, (rows, sounds) in enumerate(with_sounds(own_rows, self._utterances)):
            examples = [self._joined([self.train_examples[index] for index in parts]) for parts in rows]
            yield Recordings(epoch, number, examples, sounds)

    def _utterances(self, batch: PlannedBatch) -> Iterator[Utterance]:
        for index in chain.from_iterable(batch):
            yield from self.train_examples[index].utterances

    def loss(self, batch: Batch, *, generator: torch.Generator) -> BatchLoss:
        """The loss of a batch, characters and phones together, per character; impossible utterances named.

        Of this process's rows, per character of all processes'.
        """
        ids = tuple(example.id for example in batch.examples)
        with naming(ids):
            sums = self._sums(batch, generator) if batch.examples else self._no_rows()
        characters, phones, frames = total(sums.characters, sums.phones, sums.frames)
        loss = sums.loss / max(characters, 1)
        figures = {"loss": loss.item()}
        if self.lexicon:
            phone_loss = sums.phone_loss / max(phones, 1)
            figures["phone_loss"] = phone_loss.item()
            loss = (1.0 - self.config.auxiliary.weight) * loss + self.config.auxiliary.weight * phone_loss
        return BatchLoss(
            loss=loss,
            figures=figures,
            skipped=sums.skipped,
            ids=ids,
            blank_share=sums.blanks / max(frames, 1),
            notes=self._new_notes(),
        )

    def _no_rows(self) -> RowSums:
        """Of a process without rows, whose backward pass has to be on the device of the others'."""
        zero = torch.zeros((), device=self.device)
        return RowSums(loss=zero.clone().requires_grad_(), phone_loss=zero)

    def _new_notes(self) -> tuple[str, ...]:
        """What there is to say since the last call; the same only once."""
        new = tuple(sentence for sentence, said in self._notes.items() if not said)
        self._notes.update(dict.fromkeys(new, True))
        return new

    def _ctc_losses(self, log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor) -> Tensor:
        """(B,) by the kernel that the configuration asks for."""

        def note(sentence: str) -> None:
            self._notes.setdefault(sentence, False)

        backend = self.config.ctc_backend
        return ctc_loss(log_probs, targets, lengths, target_lengths, blank=BLANK, backend=backend, note=note)

    def _sums(self, batch: Batch, generator: torch.Generator) -> RowSums:
        """Losses and counts of a batch."""
        model = self.model
        features, feature_lengths = model.frontend(batch.waveforms.to(self.device), batch.lengths)
        features = self._masked(features, feature_lengths, batch, generator)
        with autocast(self.precision, self.device):
            log_probs, lengths, layers = model.encoder.forward_with_layers(features, feature_lengths.to(self.device))
        targets, target_lengths = batch.targets()
        losses = self._ctc_losses(log_probs, targets, lengths, target_lengths)
        summed, characters = sum_possible(losses, target_lengths)
        skipped = [
            example.id for example, loss in zip(batch.examples, losses.tolist(), strict=True) if loss == math.inf
        ]
        valid = torch.arange(log_probs.shape[1], device=self.device) < lengths[:, None]
        sums = RowSums(
            loss=summed,
            phone_loss=torch.zeros((), device=self.device),
            characters=characters,
            blanks=int((log_probs.detach().argmax(dim=-1) == BLANK)[valid].sum()),
            frames=int(lengths.sum()),
            skipped=tuple(skipped),
        )
        if not self.lexicon:
            return sums
        phone_loss, phones, without_phones = self._phone_sums(batch, *layers[self.config.auxiliary.layer - 1])
        skipped += [f"{id_} (its phones)" for id_ in without_phones if id_ not in skipped]
        return replace(sums, phone_loss=phone_loss, phones=phones, skipped=tuple(skipped))

    def _masked(self, features: Tensor, lengths: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
        """The features with masks that each utterance draws by itself: the same in whatever process and row it is."""
        masks = []
        for row, example in enumerate(batch.examples):
            draws = torch.Generator().manual_seed(seed_of(generator.initial_seed(), crc32(example.id.encode())))
            here = slice(row, row + 1)
            masks.append(draw_masks(features[here], lengths[here], self.config.augment, draws))
        return hide(features, *(torch.cat(each) for each in zip(*masks, strict=True)))  # together: a GPU waits for each

    def rehearse(self) -> None:
        """Runs the largest training batch there and back, and the longest dev batch: what they lack shows now.

        Raises:
            OutOfMemory: memory; names the utterances.
            DataError: a file.
        """
        self.modules.train()
        batch = make_batch(*self.augmentation(next(self._recordings(0, [[self._largest(self._plan(0))]]))))
        if batch.examples:
            with naming([example.id for example in batch.examples]):
                sums = self._sums(batch, torch.Generator().manual_seed(0))
                (sums.loss + sums.phone_loss).backward()
            self.modules.zero_grad(set_to_none=True)
        self.modules.eval()
        longest = self._plain_windows(self.dev_examples)[0][0]
        (batch,) = self._plain_batches([[longest]])
        ids = [example.id for example in batch.examples]
        with naming(ids), torch.inference_mode(), autocast(self.precision, self.device):
            self.model(batch.waveforms.to(self.device), batch.lengths.to(self.device))

    def _largest(self, windows: Sequence[Sequence[PlannedBatch]]) -> PlannedBatch:
        """The batch with most sound, padding counted."""
        seconds = [example.seconds for example in self.train_examples]

        def padded(batch: PlannedBatch) -> float:
            return len(batch) * max(sum(seconds[index] for index in recording) for recording in batch)

        return max(chain.from_iterable(windows), key=padded)

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Dev WER, CER and loss per character of the current weights, greedily decoded."""
        self.modules.eval()
        words, characters, loss, count = ErrorCounts(), ErrorCounts(), 0.0, 0
        for batch in self._plain_batches(shared_out(self._plain_windows(self.dev_examples))):
            with autocast(self.precision, self.device):
                log_probs, lengths = self.model(batch.waveforms.to(self.device), batch.lengths.to(self.device))
            targets, target_lengths = batch.targets()
            losses = self._ctc_losses(log_probs, targets, lengths, target_lengths)
            summed, spoken = sum_possible(losses, target_lengths)
            loss += summed.item()
            count += spoken
            for example, emission, length in zip(
                batch.examples, log_probs.cpu().numpy(), lengths.tolist(), strict=True
            ):
                own = emission[:length]
                # What has become of a model that diverged says nothing, and ranks behind all others.
                text = "" if np.isnan(own).any() else decode(own, self.alphabet).text
                words += word_errors(example.text, text)
                characters += character_errors(example.text, text)
        words, characters = (sum(gather(counts), ErrorCounts()) for counts in (words, characters))
        whole_loss, whole_count = total(loss, count)
        return {"wer": words.rate, "cer": characters.rate, "loss": whole_loss / max(whole_count, 1)}

    def train_hours(self) -> float:
        """Hours of speech in the training set, before augmentation."""
        return sum(example.seconds for example in self.train_examples) / 3600

    def _plan(self, epoch: int) -> list[list[PlannedBatch]]:
        """Windows of batches; the very first batch has the longest recording, to run out of memory at once.

        An epoch's plan is asked for several times, and takes seconds for a large corpus: the last one is kept.
        """
        if self._planned[0] != epoch:
            self._planned = epoch, self._make_plan(epoch)
        return self._planned[1]

    def _make_plan(self, epoch: int) -> list[list[PlannedBatch]]:
        data = self.config.data
        rng = np.random.default_rng((self.config.loop.seed, epoch))
        seconds = np.array([example.seconds for example in self.train_examples])
        archives = [example.utterances[0].archive for example in self.train_examples]
        windows, longest = [], []
        for window in plan_windows(archives, together=data.shards_together, rng=rng):
            joins = plan_joins(
                seconds[window], probability=data.join_probability, max_seconds=data.max_seconds, rng=rng
            )
            recordings = [tuple(window[list(join)].tolist()) for join in joins]
            totals = np.array([seconds[list(recording)].sum() for recording in recordings])
            batches = plan_batches(totals, batch_seconds=data.batch_seconds, rng=rng)
            if epoch == 0:
                batches.sort(key=lambda batch: totals[batch].max() < totals.max())
            windows.append([[recordings[index] for index in batch] for batch in batches])
            longest.append(totals.max())
        if epoch == 0:
            windows.insert(0, windows.pop(int(np.argmax(longest))))
        return windows

    def _joined(self, examples: list[Example]) -> Example:
        """The example of utterances that follow each other in one recording."""
        text = " ".join(example.text for example in examples if example.text)
        phones = [example.phones for example in examples]
        return Example(
            utterances=tuple(chain.from_iterable(example.utterances for example in examples)),
            text=text,
            labels=compact(self.alphabet.encode(text, dropped=Counter())),  # what is dropped has been reported
            phones=None if None in phones else compact(chain.from_iterable(phones)),  # type: ignore[arg-type]
        )

    def _plain_windows(self, examples: Sequence[Example]) -> list[list[list[Example]]]:
        """All examples in batches of similar length, the longest of all first, and the longest of each window first."""
        seconds = np.array([example.seconds for example in examples])
        archives = [example.utterances[0].archive for example in examples]
        windows = []
        for window in plan_windows(archives, together=self.config.data.shards_together, rng=None):
            plan = plan_batches(seconds[window], batch_seconds=2 * self.config.data.batch_seconds, rng=None)
            windows.append([[examples[index] for index in window[batch]] for batch in plan])
        return sorted(windows, key=lambda batches: -batches[0][0].seconds)

    def _plain_batches(self, windows: Iterable[Sequence[list[Example]]]) -> Iterator[Batch]:
        """Batches of examples as they were recorded."""

        def prepare(batch: tuple[list[Example], Sounds]) -> Batch:
            examples, sounds = batch
            utterances = [example.utterances[0] for example in examples]
            return make_batch(
                examples, [read_waveform(each, self.model.sample_rate, sounds=sounds) for each in utterances]
            )

        return prefetch(prepare, with_sounds(windows, lambda batch: (example.utterances[0] for example in batch)))

    def _phone_sums(self, batch: Batch, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, int, list[str]]:
        """CTC loss and phones of the utterances whose words all have a pronunciation; ids without an alignment."""
        rows = [row for row, example in enumerate(batch.examples) if example.phones is not None]
        if not rows:
            return hidden.new_zeros((), dtype=torch.float32), 0, []
        with autocast(self.precision, self.device):
            logits = self.modules["phones"](hidden[rows])
        phones, phone_lengths = pad_labels([batch.examples[row].phones or compact(()) for row in rows])
        losses = self._ctc_losses(logits.float().log_softmax(dim=-1), phones, lengths[rows], phone_lengths)
        summed, count = sum_possible(losses, phone_lengths)
        impossible = [
            batch.examples[row].id for row, loss in zip(rows, losses.tolist(), strict=True) if loss == math.inf
        ]
        return summed, count, impossible

    def _example(self, utterance: Utterance, text: str, *, dev: bool = False) -> Example:
        """The utterance with its labels; a character outside the alphabet is an error that names the utterance."""
        dropped: Counter[str] = Counter()
        labels = self.alphabet.encode(text, dropped=dropped)
        unexpected = set(dropped) - set(self.config.data.unknown_characters)
        if unexpected and not dev:
            raise DataError(
                f"the alphabet must have the characters of {utterance.id!r}, but lacks "
                f"{', '.join(map(repr, sorted(unexpected)))}; name them in data.unknown_characters to leave them out",
                path=utterance.audio,
            )
        (self.dropped_of_dev if dev else self.dropped).update(dropped)
        phones = self.lexicon.encode(text) if self.lexicon else None
        return Example(
            utterances=(utterance,),
            text=utterance.text if utterance.text == text else text,  # one string in memory, not two
            labels=compact(labels),
            phones=None if phones is None else compact(phones),
        )

    def _usable(self, examples: list[Example], note: Callable[[str], None]) -> list[Example]:
        """The training examples that can be learned from; the others are counted, and the first few named."""
        longest = self.config.data.max_seconds
        usable: list[Example] = []
        faulty: dict[str, list[str]] = {}
        for example in examples:
            num_frames = self.model.output_length(round(example.seconds * self.model.sample_rate))
            if example.seconds > longest:
                faulty.setdefault(f"longer than max_seconds ({longest:g})", []).append(example.id)
            elif num_frames < minimum_frames(example.labels):
                why = "more characters than frames to say them in: is the transcript of another recording?"
                faulty.setdefault(why, []).append(example.id)
            else:
                usable.append(example)
        for why, ids in faulty.items():
            names = ", ".join(ids[:5]) + ", …" * (len(ids) > 5)
            note(f"{len(ids)} training utterances left out ({names}): {why}")
        if not usable:
            raise DataError(
                "at least one utterance must be usable, but none is", path=", ".join(self.config.data.train)
            )
        return usable

    def _report_left_out(self, note: Callable[[str], None]) -> None:
        """Says which characters, and which words' phones, are left out."""
        for texts, dropped in (("training", self.dropped), ("dev", self.dropped_of_dev)):
            if dropped:
                counts = ", ".join(f"{character!r} {count} times" for character, count in dropped.most_common())
                note(f"characters outside the alphabet were left out of {texts} targets: {counts}")
        if self.lexicon:
            unknown = Counter(word for example in self.train_examples for word in self.lexicon.unknown(example.text))
            if unknown:
                without = sum(example.phones is None for example in self.train_examples)
                words = ", ".join(word for word, _ in unknown.most_common(5))
                note(
                    f"{len(unknown)} words have no pronunciation ({words}{', …' * (len(unknown) > 5)}): "
                    f"{without} of {len(self.train_examples)} utterances train without phones"
                )

    def _fit_normalization(self) -> None:
        """Estimates the global mean and variance on the training set, without augmentation."""
        batches = self._plain_batches(self._plain_windows(self.train_examples))
        frontend = self.model.frontend.eval()  # without dither
        frontend.fit_normalization((batch.waveforms.to(self.device), batch.lengths) for batch in batches)


def sum_possible(losses: Tensor, target_lengths: Tensor) -> tuple[Tensor, int]:
    """The sum of the losses (B,) of the targets that have an alignment, a scalar, and the labels in those targets.

    Only an infinite loss means that there is none; a NaN stays, for the loop to notice.
    """
    possible = losses != torch.inf
    return losses[possible].sum(), int(target_lengths[possible.cpu()].sum())


def shared_out(windows: Sequence[Sequence[Item]]) -> list[list[Item]]:
    """This process's batches of each window: every n-th of all batches, so that all have as many."""
    numbered = enumerate(chain.from_iterable(windows))
    return [
        [batch for (number, batch) in islice(numbered, len(batches)) if number % num_processes() == rank()]
        for batches in windows
    ]


def _without_first(windows: Sequence[Sequence[PlannedBatch]], count: int) -> Iterator[Sequence[PlannedBatch]]:
    """The windows without their first `count` batches, and without those that have none left."""
    for window in windows:
        if len(window) > count:
            yield window[count:]
        count = max(count - len(window), 0)

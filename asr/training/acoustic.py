"""The acoustic model as something to train: its examples, its loss with the auxiliary target, its dev error."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import chain
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from asr.acoustic_model import AcousticModel, ModelConfig
from asr.augment import augment_waveform, read_sounds, spec_augment
from asr.ctc.collapse import minimum_frames
from asr.ctc.loss import ctc_loss
from asr.data.manifest import Utterance
from asr.data.waveforms import read_waveform
from asr.decoding import decode
from asr.device import autocast, choose_precision, find_device
from asr.errors import ConfigError, DataError
from asr.metrics import ErrorCounts, character_errors, word_errors
from asr.options import first_difference, to_json
from asr.plots import training_curve
from asr.text import BLANK, Alphabet, normalize
from asr.training.checkpoint import write_atomically
from asr.training.config import TrainingConfig
from asr.training.data import (
    Batch,
    Example,
    make_batch,
    pad_labels,
    plan_batches,
    plan_joins,
    prefetch,
    read_utterances,
)
from asr.training.lexicon import Lexicon
from asr.training.log import read_log
from asr.training.loop import BatchLoss, fit


class AcousticTask:
    """What the epoch loop needs to know about acoustic models.

    Args:
        config: the whole configuration.
        device: where to train.
        note: called with one sentence for each thing a person should know (what was left out, and why).
    Raises:
        DataError: manifests without usable utterances, or a character that the alphabet lacks.
    """

    criterion = "wer"

    def __init__(self, config: TrainingConfig, *, device: torch.device, note: Callable[[str], None]):
        self.config = config
        self.device = device
        train = read_utterances(config.data.train)
        texts = [normalize(utterance.text, config.text) for utterance in train]
        model = self._make_model(texts)
        self.alphabet = model.alphabet
        self.lexicon = Lexicon(config.auxiliary.lexicon) if config.auxiliary.lexicon else None
        self.dropped: Counter[str] = Counter()
        self.train_examples = self._usable([self._example(*pair) for pair in zip(train, texts, strict=True)], note)
        self.dev_examples = [
            self._example(utterance, normalize(utterance.text, config.text), dev=True)
            for utterance in read_utterances(config.data.dev)
        ]
        self._report_left_out(note)
        self.modules = nn.ModuleDict({"model": model})
        if self.lexicon:
            self.modules["phones"] = nn.Linear(model.encoder.width, self.lexicon.size)
        self.modules.to(device)
        self.noises = read_sounds(config.data.noise, config.frontend.sample_rate)
        self.impulse_responses = read_sounds(config.data.impulse_responses, config.frontend.sample_rate)
        self.precision = choose_precision(config.loop.precision, device, training=True)
        if model.config.frontend.normalization == "global":
            self._fit_normalization()

    @property
    def model(self) -> AcousticModel:
        model = self.modules["model"]
        assert isinstance(model, AcousticModel)
        return model

    def num_batches(self, epoch: int) -> int:
        """Batches in an epoch."""
        return len(self._plan(epoch))

    def batches(self, epoch: int, *, start: int) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, augmented, prepared ahead in a thread."""

        def augmented(utterance: Utterance) -> np.ndarray:
            rng = np.random.default_rng((self.config.loop.seed, epoch, crc32(utterance.id.encode())))
            waveform = read_waveform(utterance, self.model.sample_rate)
            return augment_waveform(waveform, self.config.augment, self.noises, self.impulse_responses, rng)

        def prepare(recordings: list[tuple[int, ...]]) -> Batch:
            examples = [self._joined([self.train_examples[index] for index in recording]) for recording in recordings]
            return make_batch(
                examples, [np.concatenate([augmented(part) for part in example.utterances]) for example in examples]
            )

        return prefetch(prepare, self._plan(epoch)[start:])

    def loss(self, batch: Batch, *, generator: torch.Generator) -> BatchLoss:
        """The loss of a batch, characters and phones together, per character; impossible utterances named."""
        model, auxiliary = self.model, self.config.auxiliary
        features, feature_lengths = model.frontend(batch.waveforms.to(self.device), batch.lengths)
        features = spec_augment(features, feature_lengths, self.config.augment, generator)
        with autocast(self.precision, self.device):
            log_probs, lengths, layers = model.encoder.forward_with_layers(features, feature_lengths.to(self.device))
        targets, target_lengths = batch.targets()
        losses = ctc_loss(log_probs, targets, lengths, target_lengths, blank=BLANK)
        possible = losses.isfinite()
        characters = target_lengths[possible.cpu()].sum().clamp(min=1)
        total = losses[possible].sum() / characters
        figures = {"loss": total.detach().item()}
        if self.lexicon:
            hidden, hidden_lengths = layers[auxiliary.layer - 1]
            phone_loss = self._phone_loss(batch, hidden, hidden_lengths)
            figures["phone_loss"] = phone_loss.detach().item()
            total = (1.0 - auxiliary.weight) * total + auxiliary.weight * phone_loss
        own = torch.arange(log_probs.shape[1], device=self.device) < lengths[:, None]
        return BatchLoss(
            loss=total,
            figures=figures,
            skipped=tuple(example.id for example, ok in zip(batch.examples, possible.tolist(), strict=True) if not ok),
            ids=tuple(example.id for example in batch.examples),
            blank_share=float((log_probs.detach().argmax(dim=-1) == BLANK)[own].float().mean()),
        )

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Dev WER, CER and loss per character of the current weights, greedily decoded."""
        self.modules.eval()
        words, characters, loss, count = ErrorCounts(), ErrorCounts(), 0.0, 0
        for batch in self._plain_batches(self.dev_examples):
            with autocast(self.precision, self.device):
                log_probs, lengths = self.model(batch.waveforms.to(self.device), batch.lengths.to(self.device))
            targets, target_lengths = batch.targets()
            losses = ctc_loss(log_probs, targets, lengths, target_lengths, blank=BLANK)
            loss += losses[losses.isfinite()].sum().item()
            count += int(target_lengths.sum())
            for example, emission, length in zip(
                batch.examples, log_probs.cpu().numpy(), lengths.tolist(), strict=True
            ):
                text = decode(emission[:length], self.alphabet, frame_seconds=self.model.frame_seconds).text
                words += word_errors(example.text, text)
                characters += character_errors(example.text, text)
        return {"wer": words.rate, "cer": characters.rate, "loss": loss / max(count, 1)}

    def train_hours(self) -> float:
        """Hours of speech in the training set, before augmentation."""
        return sum(example.seconds for example in self.train_examples) / 3600

    def _plan(self, epoch: int) -> list[list[tuple[int, ...]]]:
        """Batches of recordings of utterances; the very first has the longest, to run out of memory at once."""
        data = self.config.data
        rng = np.random.default_rng((self.config.loop.seed, epoch))
        seconds = np.array([example.seconds for example in self.train_examples])
        recordings = plan_joins(seconds, probability=data.join_probability, max_seconds=data.max_seconds, rng=rng)
        totals = np.array([seconds[list(recording)].sum() for recording in recordings])
        plan = plan_batches(totals, batch_seconds=data.batch_seconds, rng=rng)
        if epoch == 0:
            plan.sort(key=lambda batch: totals[batch].max() < totals.max())
        return [[recordings[index] for index in batch] for batch in plan]

    def _joined(self, examples: list[Example]) -> Example:
        """The example of utterances that follow each other in one recording."""
        space = self.alphabet.encode(" ") if " " in self.alphabet.characters else []
        phones = [example.phones for example in examples]
        return Example(
            utterances=tuple(chain.from_iterable(example.utterances for example in examples)),
            text=" ".join(example.text for example in examples),
            labels=tuple(reduce(lambda before, after: [*before, *space, *after], (e.labels for e in examples))),
            phones=None if None in phones else tuple(chain.from_iterable(phones)),  # type: ignore[arg-type]
        )

    def _plain_batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        """All examples as they were recorded, the longest first."""
        seconds = np.array([example.seconds for example in examples])

        def prepare(indices: np.ndarray) -> Batch:
            batch = [examples[index] for index in indices]
            return make_batch(
                batch, [read_waveform(example.utterances[0], self.model.sample_rate) for example in batch]
            )

        return prefetch(prepare, plan_batches(seconds, batch_seconds=2 * self.config.data.batch_seconds, rng=None))

    def _phone_loss(self, batch: Batch, hidden: Tensor, lengths: Tensor) -> Tensor:
        """CTC loss of the phones per phone, over the utterances whose words all have a pronunciation."""
        rows = [row for row, example in enumerate(batch.examples) if example.phones is not None]
        if not rows:
            return hidden.new_zeros((), dtype=torch.float32)
        with autocast(self.precision, self.device):
            logits = self.modules["phones"](hidden[rows])
        phones, phone_lengths = pad_labels([batch.examples[row].phones or () for row in rows])
        losses = ctc_loss(logits.float().log_softmax(dim=-1), phones, lengths[rows], phone_lengths, blank=BLANK)
        possible = losses.isfinite()
        return losses[possible].sum() / phone_lengths[possible.cpu()].sum().clamp(min=1)

    def _make_model(self, texts: list[str]) -> AcousticModel:
        """A new model with the alphabet of the texts, or the one that the configuration starts from."""
        config = self.config
        if not config.init:
            characters = Alphabet.from_texts(
                "".join(character for character in text if character not in config.data.unknown_characters)
                for text in texts
            ).characters
            return AcousticModel(
                ModelConfig(
                    characters=characters,
                    text=config.text,
                    frontend=config.frontend,
                    encoder=config.encoder,
                    name=config.name,
                    description=config.description,
                )
            )
        model = AcousticModel.load(config.init)
        for part in ("text", "frontend"):
            if getattr(model.config, part) != getattr(config, part):
                raise ConfigError(f"init: the {part} options of {config.init} must be those of this training")
        if replace(model.config.encoder, dropout=config.encoder.dropout) != config.encoder:
            raise ConfigError(f"init: the encoder of {config.init} must have the shape of this training's")
        fresh = AcousticModel(
            replace(model.config, encoder=config.encoder, name=config.name, description=config.description)
        )
        fresh.load_state_dict(model.state_dict())
        return fresh

    def _example(self, utterance: Utterance, text: str, *, dev: bool = False) -> Example:
        """The utterance with its labels; a character outside the alphabet is an error that names the utterance."""
        tolerated: Counter[str] | None = Counter() if dev or self.config.data.unknown_characters else None
        try:
            labels = self.alphabet.encode(text, dropped=tolerated)
        except ValueError as error:
            raise DataError(f"the transcript of {utterance.id!r}: {error}", path=utterance.audio) from None
        if tolerated:
            unexpected = set(tolerated) - set(self.config.data.unknown_characters)
            if unexpected and not dev:
                raise DataError(
                    f"the transcript of {utterance.id!r} has {sorted(unexpected)}, which the alphabet lacks; "
                    "name them in data.unknown_characters to leave them out",
                    path=utterance.audio,
                )
            self.dropped.update(tolerated)
        phones = self.lexicon.encode(text) if self.lexicon else None
        return Example(
            utterances=(utterance,), text=text, labels=tuple(labels), phones=None if phones is None else tuple(phones)
        )

    def _usable(self, examples: list[Example], note: Callable[[str], None]) -> list[Example]:
        """The training examples that can be learned from; the others are counted, and the first few named."""
        longest = self.config.data.max_seconds
        too_long = [example for example in examples if example.seconds > longest]
        impossible = [example for example in examples if self.model_frames(example) < minimum_frames(example.labels)]
        for faulty, why in (
            (too_long, f"longer than max_seconds ({longest:g})"),
            (impossible, "more characters than frames to say them in: is the transcript of another recording?"),
        ):
            if faulty:
                names = ", ".join(example.id for example in faulty[:5])
                note(f"{len(faulty)} training utterances left out ({names}{', …' * (len(faulty) > 5)}): {why}")
        out = {example.id for example in too_long + impossible}
        usable = [example for example in examples if example.id not in out]
        if not usable:
            raise DataError("no training utterance can be used", path=self.config.data.train[0])
        return usable

    def model_frames(self, example: Example) -> int:
        """Frames of log_probs that an example has at normal speed."""
        samples = round(example.seconds * self.config.frontend.sample_rate)
        return self.config.encoder.output_length(self.config.frontend.num_frames(samples))

    def _report_left_out(self, note: Callable[[str], None]) -> None:
        """Says which characters, and which words' phones, are left out."""
        if self.dropped:
            counts = ", ".join(f"{character!r} {count} times" for character, count in self.dropped.most_common())
            note(f"characters outside the alphabet were left out of targets: {counts}")
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
        batches = self._plain_batches(self.train_examples)
        self.model.frontend.fit_normalization((batch.waveforms, batch.lengths) for batch in batches)


def train_acoustic_model(
    config: TrainingConfig,
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    note: Callable[[str], None] = print,
    progress: bool | None = None,
) -> AcousticModel:
    """Train a model in a run folder, or go on with a run that was interrupted there.

    Args:
        config: everything that decides the result; the run folder keeps it as config.json.
        folder: the run folder: log.jsonl, curve.png, tensorboard/, checkpoints/, and model/ at the end.
        device: "cpu", "cuda", or "auto" for CUDA where there is one.
        note: called with one sentence for each thing a person should know.
        progress: bars on stderr; None: when stderr is a terminal.
    Returns:
        The trained model, as it stands in `folder/model`.
    Raises:
        ConfigError: the folder holds a run of another configuration.
        DataError: the manifests or the lexicon cannot be used.
        Interrupted, Diverged: see `fit`.
    """
    folder = Path(folder)
    claim_run_folder(folder, config)
    torch.manual_seed(config.loop.seed)
    task = AcousticTask(config, device=find_device(device), note=note)
    millions = sum(parameter.numel() for parameter in task.model.parameters()) / 1e6
    note(
        f"{len(task.train_examples)} utterances, {task.train_hours():.2f} hours, to train on, "
        f"{len(task.dev_examples)} to choose by; {millions:.1f} M weights, "
        f"{str(task.precision).removeprefix('torch.')} on {task.device}"
    )
    figures = fit(task, config.loop, folder, note=note, progress=progress)
    provenance = {
        "training": to_json(config),
        "dev": {name: round(value, 5) for name, value in figures.items()},
        "hours": round(task.train_hours(), 3),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    model = task.model
    model.config = replace(model.config, provenance=provenance)
    model.save(folder / "model")
    training_curve(read_log(folder), folder / "curve.png")
    return model.eval()


def claim_run_folder(folder: Path, config: TrainingConfig) -> None:
    """Writes config.json into a new run folder; an old one must hold the same configuration.

    Raises:
        ConfigError: the folder's run has other options; the first that differs is named.
    """
    path = folder / "config.json"
    values = to_json(config)
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
        if difference := first_difference(before, values):
            raise ConfigError(
                f"{folder} holds a run with other options ({difference}); "
                "resume it with the same, or choose another folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(values, ensure_ascii=False, indent=2) + "\n").encode())

"""The loss of an acoustic model: CTC of the characters, also on a middle layer, and of the phones.

Source of the loss on a middle layer: Lee and Watanabe 2021, "Intermediate loss regularization for CTC-based speech
recognition".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from zlib import crc32

import torch
from torch import Tensor, nn

from asr.acoustic.model import AcousticModel
from asr.compute.device import autocast
from asr.ctc.loss import ctc_loss
from asr.text.alphabet import BLANK
from asr.training.augmentation import draw_masks, hide
from asr.training.batches import Batch, pad_labels
from asr.training.config import TrainingConfig
from asr.training.distributed import total
from asr.training.examples import compact
from asr.training.task import BatchLoss, naming, seed_of


@dataclass(frozen=True, kw_only=True)
class RowSums:
    """Losses and counts, summed over the targets of a batch that have an alignment, and over all frames."""

    loss: Tensor
    middle_loss: Tensor
    characters: int = 0
    phone_loss: Tensor
    phones: int = 0
    blanks: int = 0
    frames: int = 0
    skipped: tuple[str, ...] = ()


class AcousticLoss:
    """The loss of a batch, per character; with the module "phones", a weighted mean of both targets' losses."""

    def __init__(self, modules: nn.ModuleDict, config: TrainingConfig, *, device: torch.device, precision: torch.dtype):
        model = modules["model"]
        assert isinstance(model, AcousticModel)
        self.model = model
        self.phones = modules["phones"] if config.auxiliary.lexicon else None
        self.config, self.device, self.precision = config, device, precision
        self._notes: dict[str, bool] = {}  # sentences of `ctc_loss`, and whether they are in a `BatchLoss`

    def __call__(self, batch: Batch, generator: torch.Generator) -> BatchLoss:
        """The loss of this process's rows, divided by the number of characters of all processes'."""
        ids = tuple(example.id for example in batch.examples)
        with naming(ids):
            sums = self.sums(batch, generator) if batch.examples else self._no_sums()
        characters, phones, frames = total(sums.characters, sums.phones, sums.frames)
        loss = sums.loss / max(characters, 1)
        figures = {"loss": loss.item()}
        auxiliary = self.config.auxiliary
        if auxiliary.character_layer:
            middle_loss = sums.middle_loss / max(characters, 1)
            figures["middle_loss"] = middle_loss.item()
            loss = (1.0 - auxiliary.character_weight) * loss + auxiliary.character_weight * middle_loss
        if self.phones:
            phone_loss = sums.phone_loss / max(phones, 1)
            figures["phone_loss"] = phone_loss.item()
            loss = (1.0 - auxiliary.weight) * loss + auxiliary.weight * phone_loss
        return BatchLoss(
            loss=loss,
            figures=figures,
            skipped=sums.skipped,
            ids=ids,
            blank_share=sums.blanks / max(frames, 1),
            notes=self._new_notes(),
        )

    def sums(self, batch: Batch, generator: torch.Generator) -> RowSums:
        """Losses and counts of a batch."""
        model = self.model
        with autocast(self.precision, self.device):
            features, feature_lengths = model.features(batch.inputs.to(self.device), batch.lengths)
            features = self._masked(features, feature_lengths, batch, generator)
            log_probs, lengths, layers = model.encoder.forward_with_layers(features, feature_lengths.to(self.device))
        targets, target_lengths = batch.targets()
        losses = self.ctc(log_probs, targets, lengths, target_lengths)
        loss, characters = sum_possible(losses, target_lengths)
        auxiliary = self.config.auxiliary
        middle_loss = loss.new_zeros(())
        if auxiliary.character_layer:
            hidden, middle_lengths = layers[auxiliary.character_layer - 1]
            with autocast(self.precision, self.device):
                logits = model.encoder.output(hidden)
            middle_losses = self.ctc(logits.float().log_softmax(dim=-1), targets, middle_lengths, target_lengths)
            middle_loss, _ = sum_possible(middle_losses, target_lengths)
        skipped = [
            example.id for example, loss in zip(batch.examples, losses.tolist(), strict=True) if loss == math.inf
        ]
        valid = torch.arange(log_probs.shape[1], device=self.device) < lengths[:, None]
        sums = RowSums(
            loss=loss,
            middle_loss=middle_loss,
            phone_loss=torch.zeros((), device=self.device),
            characters=characters,
            blanks=int((log_probs.detach().argmax(dim=-1) == BLANK)[valid].sum()),
            frames=int(lengths.sum()),
            skipped=tuple(skipped),
        )
        if not self.phones:
            return sums
        phone_loss, phones, without_phones = self._phone_sums(batch, *layers[auxiliary.layer - 1])
        skipped += [f"{id_} (its phones)" for id_ in without_phones if id_ not in skipped]
        return replace(sums, phone_loss=phone_loss, phones=phones, skipped=tuple(skipped))

    def ctc(self, log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor) -> Tensor:
        """(B,) losses, by the kernel that the configuration names."""

        def note(sentence: str) -> None:
            self._notes.setdefault(sentence, False)

        backend = self.config.ctc_backend
        return ctc_loss(log_probs, targets, lengths, target_lengths, blank=BLANK, backend=backend, note=note)

    def _no_sums(self) -> RowSums:
        """The sums of a process without rows; its backward pass must be on the same device as that of the others."""
        zero = torch.zeros((), device=self.device)
        return RowSums(loss=zero.clone().requires_grad_(), middle_loss=zero, phone_loss=zero)

    def _masked(self, features: Tensor, lengths: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
        """The features with masks, which depend on the utterance and the step but not on process and row."""
        masks = []
        for row, example in enumerate(batch.examples):
            draws = torch.Generator().manual_seed(seed_of(generator.initial_seed(), crc32(example.id.encode())))
            here = slice(row, row + 1)
            masks.append(draw_masks(features[here], lengths[here], self.config.augment, draws))
        return hide(features, *(torch.cat(rows) for rows in zip(*masks, strict=True)))  # one call: a GPU waits for each

    def _phone_sums(self, batch: Batch, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, int, list[str]]:
        """CTC loss and number of phones of the utterances in the lexicon; ids of those without an alignment."""
        assert self.phones
        rows = [row for row, example in enumerate(batch.examples) if example.phones is not None]
        if not rows:
            return hidden.new_zeros((), dtype=torch.float32), 0, []
        with autocast(self.precision, self.device):
            logits = self.phones(hidden[rows])
        phones, phone_lengths = pad_labels([batch.examples[row].phones or compact(()) for row in rows])
        losses = self.ctc(logits.float().log_softmax(dim=-1), phones, lengths[rows], phone_lengths)
        loss, count = sum_possible(losses, phone_lengths)
        impossible = [
            batch.examples[row].id for row, loss in zip(rows, losses.tolist(), strict=True) if loss == math.inf
        ]
        return loss, count, impossible

    def _new_notes(self) -> tuple[str, ...]:
        """The sentences since the last call; the same sentence only once."""
        new = tuple(sentence for sentence, noted in self._notes.items() if not noted)
        self._notes.update(dict.fromkeys(new, True))
        return new


def sum_possible(losses: Tensor, target_lengths: Tensor) -> tuple[Tensor, int]:
    """The sum of the losses (B,) of the targets that have an alignment, a scalar, and the labels in those targets.

    An infinite loss means that there is no alignment; a NaN stays in the sum, so that the loop notices it.
    """
    possible = losses != torch.inf
    return losses[possible].sum(), int(target_lengths[possible.cpu()].sum())

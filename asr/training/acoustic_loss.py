"""The loss of an acoustic model: CTC of the characters, also on a middle layer, and of the phones.

With `data.chunked`, the model computes the utterances of some batches in chunks, as in a stream; the losses are of the
joined frames.

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
from asr.training.chunks import Chunks, ChunkSizes, draw_sizes
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
            sums = self.sums(batch, generator, self._draw_sizes(generator)) if batch.examples else self._no_sums()
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

    def sums(self, batch: Batch, generator: torch.Generator, sizes: ChunkSizes | None = None) -> RowSums:
        """Losses and counts of a batch, computed in chunks of these sizes; None: of whole utterances."""
        model = self.model
        log_probs, lengths, layers = self._encoded(batch, generator, sizes)
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

    def _encoded(
        self, batch: Batch, generator: torch.Generator, sizes: ChunkSizes | None
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """The result of `Encoder.forward_with_layers` for the masked features of a batch."""
        model, encoder = self.model, self.model.encoder
        chunks = self._chunks(batch, sizes) if sizes else None
        inputs, lengths = batch.inputs, batch.lengths
        if chunks:
            per_frame = encoder.options.time_reduction if inputs.ndim == 3 else model.config.samples_per_frame
            inputs, lengths = chunks.cut(inputs, lengths, per_frame=per_frame)
        with autocast(self.precision, self.device):
            features, feature_lengths = model.features(inputs.to(self.device), lengths)
            features = self._masked(features, batch, generator, chunks)
            log_probs, lengths, layers = encoder.forward_with_layers(features, feature_lengths.to(self.device))
        if not chunks:
            return log_probs, lengths, layers
        joined_layers = [
            chunks.join(hidden, layer_lengths, per_frame=encoder.options.layer_frames(number))
            for number, (hidden, layer_lengths) in enumerate(layers, start=1)
        ]
        return *chunks.join(log_probs, lengths, per_frame=1), joined_layers

    def _draw_sizes(self, generator: torch.Generator) -> ChunkSizes | None:
        """The sizes of this step's chunks, in all processes the same."""
        share = self.config.data.chunked
        return draw_sizes(share, seed=seed_of(generator.initial_seed(), crc32(b"chunks"))) if share else None

    def _chunks(self, batch: Batch, sizes: ChunkSizes) -> Chunks:
        """The chunks of the batch's utterances."""
        config = self.model.config
        chunk, left_context, look_ahead = (
            max(1, round(seconds * config.sample_rate / config.samples_per_frame))
            for seconds in (sizes.chunk, sizes.left_context, sizes.look_ahead)
        )
        # Some frontends give fewer frames of a row than fit into it; look-ahead stands in for them.
        look_ahead += chunk - min(chunk, config.output_length(chunk * config.samples_per_frame))
        num_frames = config.encoder.output_length(self._feature_lengths(batch))
        return Chunks(num_frames, chunk=chunk, left_context=left_context, look_ahead=look_ahead)

    def _feature_lengths(self, batch: Batch) -> Tensor:
        """(B,) frames of features of each whole utterance."""
        return batch.lengths if batch.inputs.ndim == 3 else self.model.config.frontend.num_frames(batch.lengths)

    def _masked(self, features: Tensor, batch: Batch, generator: torch.Generator, chunks: Chunks | None) -> Tensor:
        """The features with masks, which depend on the utterance and the step but not on process, row and chunk."""
        lengths = self._feature_lengths(batch)
        whole = features.new_empty((1, int(lengths.max()), features.shape[2]), device="meta")
        masks = []
        for row, example in enumerate(batch.examples):
            draws = torch.Generator().manual_seed(seed_of(generator.initial_seed(), crc32(example.id.encode())))
            masks.append(draw_masks(whole, lengths[row : row + 1], self.config.augment, draws))
        frames, bins = (torch.cat(rows) for rows in zip(*masks, strict=True))
        if chunks:
            frames, _ = chunks.cut(frames, lengths, per_frame=self.model.encoder.options.time_reduction)
            bins = bins[chunks.utterances]
        frames = nn.functional.pad(frames, (0, features.shape[1] - frames.shape[1]))
        return hide(features, frames, bins)  # one call: a GPU waits for each

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

"""The dev figures of an acoustic model in training."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from asr.compute.device import autocast
from asr.decoding.decoder import decode
from asr.text.metrics import ErrorCounts, character_errors, word_errors
from asr.training.acoustic_loss import AcousticLoss, sum_possible
from asr.training.batches import Batch
from asr.training.distributed import gather, total


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

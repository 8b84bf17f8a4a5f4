"""The choices for training on from a model, by rule, from the length of the recordings."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asr.data.manifest import Utterance

MOST_EPOCHS, FEWEST_EPOCHS = 20, 3


def fine_tuning_options(utterances: Iterable[Utterance], *, cache: Path | None = None) -> dict[str, dict[str, Any]]:
    """Options of a `TrainingConfig` that starts from a model, by group, for these training utterances.

    A seventh of the usual learning rate, so that what the model knows is kept; and the fewer epochs the more there is
    to learn from: 20 for up to five minutes, 14 for ten, 10 for twenty, 7 for forty, 3 for four hours or more. The best
    epochs on dev are kept, and training ends after five without a better one. The features of a pretrained encoder are
    computed once: a quarter of the time, and no more errors than with masks that differ in each epoch.

    Args:
        utterances: of the training data.
        cache: the folder for the features of the model's pretrained encoder; None if it has none, or they are not kept.
    """
    minutes = sum(utterance.duration_seconds for utterance in utterances) / 60
    epochs = round(MOST_EPOCHS * math.sqrt(5 / minutes)) if minutes > 5 else MOST_EPOCHS
    return {
        "loop": {
            "epochs": max(epochs, FEWEST_EPOCHS),
            "learning_rate": 3e-4,
            "warmup_epochs": 1.0,
            "early_stop_epochs": 5,
        },
        "augment": {"time_mask_max_frames": 30, "frequency_mask_max_bins": 15},
        "data": {"feature_cache": os.path.abspath(cache), "feature_variants": 1} if cache else {},
    }

"""Usual names of the splits of a corpus, in the names of files and data sets."""

from __future__ import annotations

import re
from typing import Literal

Split = Literal["train", "dev", "test", ""]

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "trainset": "train", "trn": "train",
    "dev": "dev", "development": "dev", "devel": "dev", "devset": "dev",
    "validation": "dev", "valid": "dev", "val": "dev",
    "test": "test", "testing": "test", "testset": "test", "tst": "test", "eval": "test", "evaluation": "test",
    "heldout": "test",
}  # fmt: skip


def find_split(name: str) -> Split:
    """The split that a name belongs to, by its first word in `SPLIT_NAMES`; "" if there is none."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")

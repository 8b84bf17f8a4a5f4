"""What people call the parts of a corpus, in names of files and of data sets."""

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
    """Which split a name is of: the first of its words that says so; "" if none does."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")

"""A decoder for anyone's acoustic model: labels as pyctcdecode and Hugging Face have them, in any order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from asr.decoding import Decoder, checked_log_probs
from asr.decoding_options import BEAM_WIDTH, DecodingOptions
from asr.errors import InputError
from asr.text import Alphabet
from asr.transcript import Transcript

BLANKS = ("", "<pad>", "[PAD]", "<blank>", "<blk>", "_")
SPACES = ("|", " ", "▁")
UNUSED = ("<s>", "</s>", "<unk>", "[UNK]", "[CLS]", "[SEP]", "⁇")


class LabelDecoder:
    """Decodes emissions whose columns stand for given labels; see `build_decoder`."""

    def __init__(self, labels: Sequence[str], options: DecodingOptions, *, logits: bool):
        if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
            raise InputError(f"labels must be a list of strings, one for each column; got {labels!r:.80}")
        self._num_columns = len(labels)
        self._logits = logits
        blank = _only_column(labels, BLANKS, name="blank")
        space = next((label for label in SPACES if label in labels), None)
        letters = [column for column, label in enumerate(labels) if column != blank and label not in UNUSED]
        self._columns = [blank, *letters]
        for column in letters:
            if len(labels[column]) != 1:
                raise InputError(
                    f"each label must be one character, but for a blank ({', '.join(map(repr, BLANKS))}) and what is "
                    f"never said ({', '.join(UNUSED)}); labels[{column}] is {labels[column]!r}"
                )
        characters = tuple(" " if labels[column] == space else labels[column] for column in letters)
        self.decoder = Decoder(Alphabet(characters), options)

    def decode(self, emission: Any, *, frame_seconds: float = 1.0) -> Transcript:
        """The transcript of one utterance.

        Args:
            emission: (T, V) floating, a column for each label: natural log-probabilities, or logits if the decoder was
                built for them. NumPy array or torch tensor.
            frame_seconds: from one frame to the next; left at 1, all times count frames.
        Raises:
            InputError: it has another shape, or is not what the decoder was built for.
        """
        if self._logits:
            if hasattr(emission, "detach"):  # a torch tensor
                emission = emission.detach().cpu().double()
            emission = np.asarray(emission, dtype=np.float64)
            if emission.ndim != 2 or emission.shape[1] != self._num_columns:
                raise InputError(
                    f"logits must be (T, {self._num_columns}), a column for each label; got shape {emission.shape}"
                )
        else:
            emission = checked_log_probs(emission, num_labels=self._num_columns)
        emission = emission[:, self._columns]
        if self._logits or len(self._columns) < self._num_columns:  # what is never said has no probability
            emission = emission - np.logaddexp.reduce(emission, axis=1, keepdims=True)
        return self.decoder.decode(emission, frame_seconds=frame_seconds)


def build_decoder(
    labels: Sequence[str],
    ngram_path: str | os.PathLike[str] | None = None,
    *,
    logits: bool = False,
    **options: Any,
) -> LabelDecoder:
    """A beam search over the labels of any CTC model: the way over from pyctcdecode's `build_ctcdecoder`.

        decoder = asr.build_decoder(["<pad>", "<s>", "</s>", "<unk>", "|", "E", ...], "lm.arpa.gz", lm_weight=0.5)
        decoder.decode(log_probs).text

    Args:
        labels: one for each column, in their order: one character each; "" or <pad> and the like for the blank, once;
            "|", " " or "▁" for the space; <s>, </s> and <unk>, which are never said, are left out.
        ngram_path: an ARPA file of words or characters, plain, .gz or .xz; None does without.
        logits: emissions will be logits, not log-probabilities.
        options: of `DecodingOptions`: beam_width (16), lm_weight, word_bonus, hotwords ...
    Raises:
        ConfigError: an option is wrong.
        InputError: labels are not as above, or a hotword cannot be spelled in them.
        DataError: the ARPA file cannot be read.
    """
    if ngram_path is not None:
        options["lm"] = os.fspath(ngram_path)
    return LabelDecoder(labels, DecodingOptions().changed({"beam_width": BEAM_WIDTH, **options}), logits=logits)


def _only_column(labels: Sequence[str], names: Sequence[str], *, name: str) -> int:
    found = [column for column, label in enumerate(labels) if label in names]
    if len(found) != 1:
        raise InputError(f"labels must have one {name}, one of {', '.join(map(repr, names))}; got {len(found)}")
    return found[0]

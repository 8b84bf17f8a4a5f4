"""A decoder for any CTC model, with labels like those of pyctcdecode and Hugging Face, in any order."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from asr.decoding.decoder import Decoder, checked_log_probs
from asr.decoding.options import BEAM_WIDTH, DecodingOptions
from asr.errors import InputError
from asr.text.alphabet import Alphabet
from asr.text.transcript import Transcript

PADS = ("<pad>", "[pad]")  # compared without case, like the labels below
BLANKS = ("", *PADS, "<blank>", "<blk>", "_")
SPACES = ("|", " ", "▁")
UNUSED = ("<s>", "</s>", "<unk>", "[unk]", "[cls]", "[sep]", "⁇", *PADS, "<blank>", "<blk>")


class LabelDecoder:
    """Decodes emissions with a column for each of the given labels; see `build_decoder`."""

    def __init__(
        self,
        labels: Sequence[str] | Mapping[str, int],
        options: DecodingOptions,
        *,
        blank: str | int | None = None,
        logits: bool = False,
    ):
        labels = _checked_labels(labels)
        self._num_columns = len(labels)
        self._logits = logits
        blank_column = _blank_column(labels, blank)
        space = next((label for label in SPACES if label in labels), None)
        others = [column for column in range(len(labels)) if column != blank_column]
        self._letters = [column for column in others if labels[column].casefold() not in UNUSED]
        self._silent = [blank_column, *sorted(set(others) - set(self._letters))]
        for column in self._letters:
            if len(labels[column]) != 1:
                raise InputError(
                    f"each label must be one character, except a blank ({', '.join(map(repr, BLANKS))}) and labels "
                    f"without sound ({', '.join(UNUSED)}); labels[{column}] is {labels[column]!r}"
                )
        characters = tuple(" " if labels[column] == space else labels[column] for column in self._letters)
        self.decoder = Decoder(Alphabet(characters), options)

    def decode(self, emission: Any, *, frame_seconds: float = 1.0) -> Transcript:
        """The transcript of one utterance.

        The probability of a text is the sum over all labellings that give it once labels without sound are removed. So
        <unk> in a frame counts as a blank: it gives no letter, and separates two equal letters.

        Args:
            emission: (T, V) floating, a column for each label: natural log-probabilities, or logits if the decoder was
                built with `logits`. NumPy array or torch tensor.
            frame_seconds: from one frame to the next; left at 1, all times count frames.
        Raises:
            InputError: it has another shape or other values.
        """
        if self._logits:
            emission = _normalized(emission, num_labels=self._num_columns)
        else:
            emission = checked_log_probs(emission, num_labels=self._num_columns)
        blank = np.logaddexp.reduce(emission[:, self._silent], axis=1, keepdims=True)
        emission = np.concatenate([blank, emission[:, self._letters]], axis=1)
        return self.decoder.decode(emission, frame_seconds=frame_seconds)


def build_decoder(
    labels: Sequence[str] | Mapping[str, int],
    ngram_path: str | os.PathLike[str] | None = None,
    *,
    blank: str | int | None = None,
    logits: bool = False,
    **options: Any,
) -> LabelDecoder:
    """A beam search over the labels of any CTC model, called like pyctcdecode's `build_ctcdecoder`.

        decoder = asr.build_decoder(["<pad>", "<s>", "</s>", "<unk>", "|", "E", ...], "lm.arpa.gz", lm_weight=0.5)
        decoder.decode(log_probs).text

    Args:
        labels: one for each column, in their order: one character each; "" or <pad> and the like for the blank, once;
            "|", " " or "▁" for the space; <s>, </s> and <unk> have no sound. Or a mapping of labels to columns, like
            `tokenizer.get_vocab()`.
        ngram_path: an ARPA file of words or characters, plain, .gz or .xz; None means no language model.
        blank: label or column of the blank, if its name does not identify it: "-" of torchaudio's bundles, "<s>" of
            fairseq's dictionaries.
        logits: emissions will be logits, not log-probabilities.
        options: of `DecodingOptions`: beam_width (16), lm_weight, word_bonus, hotwords ...
    Raises:
        ConfigError: an option is wrong.
        InputError: labels are not as above, the blank is unknown, or the labels can spell no hotword, or no word of the
            language model.
        DataError: the ARPA file cannot be read.
    """
    if ngram_path is not None:
        options["lm"] = os.fspath(ngram_path)
    decoding = DecodingOptions.of(**{"beam_width": BEAM_WIDTH, **options})
    return LabelDecoder(labels, decoding, blank=blank, logits=logits)


def _checked_labels(labels: object) -> list[str]:
    """A label for each column, in order."""
    if isinstance(labels, Mapping):
        columns = list(labels.values())
        if set(map(type, columns)) - {int} or sorted(columns) != list(range(len(columns))):
            shown = ", ".join(map(str, columns[:9])) + ", ..." * (len(columns) > 9)
            raise InputError(f"labels by name must have the columns 0 .. {len(columns) - 1}, each once; got {shown}")
        labels = sorted(labels, key=labels.__getitem__)
    if isinstance(labels, (set, frozenset)):
        raise InputError("labels must be in the order of the columns, but a set has no order; give a list")
    if (
        isinstance(labels, str)
        or not isinstance(labels, Collection)
        or not all(isinstance(label, str) for label in labels)
    ):
        raise InputError(f"labels must be a list of strings, one for each column; got {labels!r:.80}")
    return [str(label) for label in labels]


def _blank_column(labels: Sequence[str], blank: str | int | None) -> int:
    """The column of the blank, as given or by its name."""
    if isinstance(blank, str):
        columns = [column for column, label in enumerate(labels) if label == blank]
        if len(columns) != 1:
            raise InputError(f"blank must be one of the labels; {len(columns)} of them are {blank!r}")
        return columns[0]
    if blank is not None:
        if not isinstance(blank, (int, np.integer)) or not 0 <= blank < len(labels):
            raise InputError(f"blank must be a label or a column, 0 .. {len(labels) - 1}; got {blank!r}")
        return int(blank)
    columns = [column for column, label in enumerate(labels) if label.casefold() in BLANKS]
    fairseq = bool(labels) and labels[0] == "<s>"
    if len(columns) == 1 and not (fairseq and labels[columns[0]].casefold() in PADS):
        return columns[0]
    candidates = [f"{labels[column]!r} in column {column}" for column in columns] or ["none"]
    if fairseq:
        cure = "give blank='<s>' if this is a dictionary of fairseq, whose blank is its first label, else blank='<pad>'"
    elif columns:
        cure = f"name the right one, blank={labels[columns[0]]!r} for example"
    elif "-" in labels:
        cure = "give blank='-' if these are the labels of a torchaudio bundle, else the blank's label or column"
    else:
        cure = "give its label or column, blank=0 for example; if the list leaves it out, put '' where its column is"
    raise InputError(
        f"labels must have one blank, one of {', '.join(map(repr, BLANKS))}; got {', '.join(candidates)}; {cure}"
    )


def _normalized(logits: Any, *, num_labels: int) -> np.ndarray:
    """(T, V) float64 natural log-probabilities."""
    if hasattr(logits, "detach"):  # a torch tensor
        logits = logits.detach().cpu().double()
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or logits.shape[1] != num_labels:
        raise InputError(f"logits must be (T, {num_labels}), a column for each label; got shape {logits.shape}")
    for name, wrong in (("NaN", np.isnan(logits)), ("+inf", logits == np.inf)):
        if (rows := np.flatnonzero(wrong.any(axis=1))).size:
            raise InputError(f"logits must be finite or -inf; the first {name} is in row {rows[0]}")
    if (rows := np.flatnonzero((logits == -np.inf).all(axis=1))).size:
        raise InputError(f"each row of logits must have a value above -inf; row {rows[0]} has none")
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

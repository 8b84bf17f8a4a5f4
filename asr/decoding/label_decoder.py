"""A decoder for any CTC model, with labels like those of pyctcdecode and Hugging Face, in any order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from asr.decoding.decoder import Decoder, checked_log_probs
from asr.decoding.options import BEAM_WIDTH, DecodingOptions
from asr.errors import ConfigError, InputError
from asr.text.labels import APPEND, Labels, LabelSource
from asr.text.transcript import Transcript

_OF_PYCTCDECODE = {
    "kenlm_model_path": "ngram_path",
    "unigrams": "lexicon",
    "alpha": "lm_weight",
    "beta": "word_bonus",
    "unk_score_offset": "unknown_word_score",
    "hotword_weight": "hotwords, which takes a weight for each word",
    "token_min_logp": "token_threshold",
    "beam_prune_logp": "score_threshold",
}


class LabelDecoder:
    """Decodes emissions with a column for each of the given labels; see `build_decoder`. Threads may share it."""

    def __init__(
        self,
        labels: LabelSource,
        options: DecodingOptions,
        *,
        blank: str | int | None = None,
        logits: bool = False,
    ):
        self.labels = Labels(labels, blank=blank)
        self._logits = logits
        self.decoder = Decoder(self.labels.alphabet, options)

    def decode(self, emission: Any, *, frame_seconds: float = 1.0) -> Transcript:
        """The transcript of one utterance.

        The probability of a text is the sum over all labellings that give it once labels without sound are removed. So
        <unk> in a frame counts as a blank: it gives no letter, and separates two equal letters.

        Args:
            emission: (T, V) floating, a column for each label: natural log-probabilities, or logits if the decoder was
                built with `logits`. NumPy array or torch tensor, on any device.
            frame_seconds: from one frame to the next; left at 1, all times count frames.
        Raises:
            InputError: it has another shape or other values.
        """
        return self._in_columns(self.decoder.decode(self._arranged(emission), frame_seconds=frame_seconds))

    def decode_batch(
        self,
        emissions: Any,
        lengths: Any = None,
        *,
        frame_seconds: float = 1.0,
        num_threads: int | None = None,
    ) -> list[Transcript]:
        """The transcripts of several utterances, the same as from `decode` one by one.

        Args:
            emissions: (B, T, V) as for `decode`, or a list of (T, V).
            lengths: (B,) the frames of each utterance; frames past them may hold anything. None means all.
            frame_seconds: as for `decode`.
            num_threads: None takes one for each processor.
        Raises:
            InputError: as for `decode`; or a length is missing or not within 0 .. T.
        """
        if num_threads is None:
            num_threads = os.cpu_count() or 1
        elif num_threads < 1:
            raise InputError(f"num_threads must be at least 1; got {num_threads}")
        with ThreadPoolExecutor(num_threads) as pool:
            arranged = list(pool.map(self._arranged, _cut(emissions, lengths)))
            if self.decoder.options.rescoring.rescore_lm:  # scores all hypotheses together
                durations = [None] * len(arranged)
                decoded = self.decoder.decode_many(arranged, frame_seconds=frame_seconds, durations_seconds=durations)
            else:
                decoded = list(pool.map(lambda one: self.decoder.decode(one, frame_seconds=frame_seconds), arranged))
        return list(map(self._in_columns, decoded))

    def _in_columns(self, transcript: Transcript) -> Transcript:
        """The transcript with columns of the emission as the tokens of its hypotheses."""
        columns = [self.labels.blank_column, *self.labels.columns]
        hypotheses = (
            replace(hypothesis, tokens=tuple(columns[token] for token in hypothesis.tokens))
            for hypothesis in transcript.hypotheses
        )
        return replace(transcript, hypotheses=tuple(hypotheses))

    def _arranged(self, emission: Any) -> np.ndarray:
        """(T, K) log-probabilities of the labels of the decoder."""
        num_columns = self.labels.num_columns
        shape: tuple[int, ...] = tuple(getattr(emission, "shape", ()))
        if len(shape) == 2 and shape[1] != num_columns:
            message = f"an emission must be (T, {num_columns}), a column for each label; got shape {shape}"
            if shape[1] == num_columns + 1:
                message += f"; if its last column is the blank, which the labels leave out, give blank={APPEND!r}"
            elif shape[0] == num_columns:
                message += "; transpose it"
            raise InputError(message)
        if len(shape) == 3:
            raise InputError(
                f"an emission must be (T, {num_columns}), one utterance; got shape {shape}; decode_batch takes several"
            )
        if self._logits:
            return self.labels.arrange(_normalized(emission, num_labels=num_columns))
        remedy = "; or build the decoder with logits=True"
        return self.labels.arrange(checked_log_probs(emission, num_labels=num_columns, remedy=remedy))


def build_decoder(
    labels: LabelSource,
    ngram_path: str | os.PathLike[str] | None = None,
    *,
    blank: str | int | None = None,
    logits: bool = False,
    lexicon: str | os.PathLike[str] | Iterable[str] | None = None,
    **options: Any,
) -> LabelDecoder:
    """A beam search over the labels of any CTC model, called like pyctcdecode's `build_ctcdecoder`.

        decoder = asr.build_decoder(["<pad>", "<s>", "</s>", "<unk>", "|", "E", ...], "lm.arpa.gz", lm_weight=0.5)
        decoder.decode(log_probs).text

    Labels are letters or pieces of words. All segmentations of a text into pieces are one hypothesis. Lexicon, language
    model and hotwords are over characters and words, never over pieces.

    Args:
        labels: one for each column, in their order; or a mapping of labels to columns, like `tokenizer.get_vocab()`; or
            a file: tokens.txt, vocab.txt, vocab.json, tokenizer.json, or a model of SentencePiece. `asr.text.subwords`
            lists the styles of pieces. "" or <pad> and the like is the blank, once; other labels in brackets, such as
            <s> and [UNK], have no sound.
        ngram_path: an ARPA file of words or characters, plain, .gz or .xz; None means no language model.
        blank: label or column of the blank, if its name does not identify it: "-" of torchaudio's bundles, "<s>" of
            fairseq's dictionaries; "append" if the blank is the last column and has no label (NeMo).
        logits: emissions will be logits, not log-probabilities.
        lexicon: a file of all known words, one a line, or a list of them.
        options: of `DecodingOptions`: beam_width (16), lm_weight, word_bonus, hotwords ...
    Raises:
        ConfigError: an option is wrong.
        InputError: labels are not as above, the blank is unknown, or the labels can spell no hotword, or no word of the
            language model.
        DataError: the ARPA file, the lexicon or the file of labels cannot be read.
    """
    if theirs := next((name for name in _OF_PYCTCDECODE if name in options), None):
        ours = _OF_PYCTCDECODE[theirs]
        raise ConfigError(f"{theirs} of pyctcdecode is {ours} here; docs/pyctcdecode.md converts its value", theirs)
    if ngram_path is not None:
        options["lm"] = os.fspath(ngram_path)
    if lexicon is not None:
        options["lexicon"] = os.fspath(lexicon) if isinstance(lexicon, (str, os.PathLike)) else tuple(lexicon)
    decoding = DecodingOptions.of(**{"beam_width": BEAM_WIDTH, **options})
    return LabelDecoder(labels, decoding, blank=blank, logits=logits)


def _cut(emissions: Any, lengths: Any) -> Sequence[Any]:
    """The emission of each utterance, without the frames past its length."""
    emissions = [*emissions]
    if lengths is None:
        return emissions
    if hasattr(lengths, "detach"):
        lengths = lengths.detach().cpu()
    frames = np.asarray(lengths)
    if frames.shape != (len(emissions),) or frames.dtype.kind not in "iu":
        raise InputError(
            f"lengths must be (B,) whole numbers with the B of the emissions, {len(emissions)}; "
            f"got shape {frames.shape} in {frames.dtype}"
        )
    for row, (emission, length) in enumerate(zip(emissions, frames.tolist(), strict=True)):
        if not 0 <= length <= len(emission):
            raise InputError(f"lengths must lie in 0 .. {len(emission)}; lengths[{row}] is {length}")
    return [emission[:length] for emission, length in zip(emissions, frames.tolist(), strict=True)]


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

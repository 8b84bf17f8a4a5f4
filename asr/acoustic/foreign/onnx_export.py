"""CTC models exported to ONNX: from NeMo, icefall (Zipformer), WeNet, and wav2vec 2.0; computed by onnxruntime.

    waveform ─▶ the family's features, or the samples ─▶ onnxruntime ─▶ outputs

The folder has the model and its labels. Four toolkits write such folders, and all are read:

    sherpa-onnx   model.onnx with metadata (model_type, subsampling_factor, normalize_type), tokens.txt
    onnx-asr      model.onnx, vocab.txt, config.json (model_type, features_size, subsampling_factor)
    asr-export    model.onnx with metadata, tokens.txt; samples in
    optimum       model.onnx, vocab.json, config.json, preprocessor_config.json of Hugging Face

The inputs of the model and its metadata tell the family. Each waveform is computed alone, except in our own exports:
the convolutions of others see the padding of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.acoustic.foreign.filterbank import HOP, SAMPLE_RATE, kaldi_features, nemo_features
from asr.acoustic.foreign.model import SHORTEST_SECONDS, ForeignModel, text_like
from asr.acoustic.options import SAMPLE_SCALE
from asr.compute.onnx_session import open_session
from asr.errors import ConfigError, DataError, InputError
from asr.files.reading import parse_json, read_json
from asr.options import check_limits, from_json, shown
from asr.text.label_files import read_labels
from asr.text.labels import APPEND, PADS, Labels, is_spoken
from asr.text.normalization import TextOptions

if TYPE_CHECKING:
    from asr.compute.runtime import Precision

LABEL_FILES = ("tokens.txt", "vocab.txt", "vocab.json", "tokenizer.json", "tokenizer.model", "bpe.model")
SETTINGS_FILE = "preprocessor_config.json"  # of Hugging Face
BLANKS = ("<blk>", "<blank>", "<eps>", "<pad>", "[PAD]")  # the first that is a label
OURS = "asr"  # the model_type of `asr.acoustic.export`
MOST_BINS = 1024  # mel filters; published models have 80 or 128
MOST_RATE = 1_000_000  # samples per second
_PROBE_SECONDS = 2  # of silence, and twice as many, to count the frames of the outputs
_NORMALIZED_EPSILON = 1e-7  # of Hugging Face's feature extractor

Inputs = Callable[[np.ndarray], np.ndarray]
"""The first input of a model, (1, N), (1, T, M) or (1, M, T), from a waveform (N,)."""


@dataclass(frozen=True)
class Family:
    """How a family of exports takes its input.

    Args:
        inputs: makes the first input.
        time_axis: of the first input; its length there is the second input, if the model has one.
        step: samples from one position on this axis to the next.
        exact_batches: whether the padding of a batch changes nothing, as in our own exports.
    """

    inputs: Inputs
    time_axis: int
    step: int
    exact_batches: bool = False


class OnnxNetwork:
    """A session of onnxruntime for a model file, with the features of its family."""

    def __init__(self, path: Path, family: Family, session: Any):
        self.path, self.family = path, family
        self._session = session

    def prepare(self, device: str, precision: Precision) -> tuple[str, None]:
        """See `CTCModel.prepare`; the precision is that of the file."""
        if precision not in ("auto", "float32"):
            raise ConfigError(f"precision must be auto for an ONNX model, which has its own; got {precision}")
        kind, _, number = device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and not number.isdecimal()):
            raise InputError(f"device must be auto, cpu or a CUDA device of this machine, not {device!r}")
        if kind == "cuda" and not has_cuda():
            raise InputError(f"device {device} needs onnxruntime-gpu: this onnxruntime computes on the processor only")
        if kind == "cpu" or not has_cuda():
            return "cpu", None
        self._session = open_session(self.path, gpu=int(number or 0))
        return "auto", None

    def outputs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs (T, V) of each waveform, float32."""
        if not self.family.exact_batches:
            return [self._outputs(waveform) for waveform in waveforms]
        lengths = np.array([len(waveform) for waveform in waveforms], dtype=np.int64)
        padded = np.zeros((len(waveforms), lengths.max()), dtype=np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        samples, counts = (entry.name for entry in self._session.get_inputs())
        outputs, frames = self._run({samples: padded, counts: lengths})
        self._check_axes(outputs)
        return [one[:count] for one, count in zip(outputs, frames.tolist(), strict=True)]

    def _outputs(self, waveform: np.ndarray) -> np.ndarray:
        values = self.family.inputs(waveform)
        names = [(entry.name, entry.type) for entry in self._session.get_inputs()]
        feeds = {names[0][0]: values.astype(np.float16) if "float16" in names[0][1] else values}
        length = values.shape[self.family.time_axis]
        for name, kind in names[1:]:
            integer = np.int32 if "int32" in kind else np.int64
            whole = np.ones((1, length), dtype=integer) if "mask" in name else np.array([length], dtype=integer)
            feeds[name] = whole
        outputs, *lengths = self._run(feeds)
        self._check_axes(outputs)
        num_frames = int(lengths[0][0]) if lengths and lengths[0].shape == (1,) else outputs.shape[1]
        return outputs[0, :num_frames].astype(np.float32)

    def _check_axes(self, outputs: np.ndarray) -> None:
        """Raises: DataError: they are not those of a CTC model."""
        if outputs.ndim != 3:
            raise DataError(
                f"the first output must have three axes (batch, frames, labels); it has {outputs.ndim}", path=self.path
            )

    def _run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return self._session.run(None, feeds)
        except Exception as error:  # onnxruntime has no common class of errors
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"onnxruntime cannot compute this model: {reason}", path=self.path) from None

    def samples_per_frame(self) -> int:
        """Samples from one frame of the outputs to the next, counted in the outputs of silence."""
        silence = np.zeros(2 * _PROBE_SECONDS * SAMPLE_RATE, dtype=np.float32)
        few, many = len(self._outputs(silence[: len(silence) // 2])), len(self._outputs(silence))
        if many <= few:
            raise DataError(
                f"the model must give more frames for longer sound; it gives {few} for {_PROBE_SECONDS} s and {many} "
                f"for {2 * _PROBE_SECONDS} s: was it exported with dynamic axes?",
                path=self.path,
            )
        steps = _PROBE_SECONDS * SAMPLE_RATE / (many - few) / self.family.step
        return self.family.step * max(1, round(steps))


def has_cuda() -> bool:
    """Whether this onnxruntime can use a GPU."""
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def load_onnx(path: Path) -> ForeignModel:
    """The model of an ONNX file, with the labels and settings beside it.

    Raises:
        DataError: the model cannot be read, is of an unknown family, or lacks a file with its labels or settings.
    """
    session = open_session(path)
    metadata = session.get_modelmeta().custom_metadata_map
    config = _read_config(path.parent / "config.json")
    family = _family(path, session, metadata, config)
    network = OnnxNetwork(path, family, session)
    labels = _labels(path, session, config)
    try:
        text = from_json(TextOptions, parse_json(metadata["text"].encode())) if family.exact_batches else None
        own_rate = int(metadata["sample_rate"]) if family.exact_batches else SAMPLE_RATE
        check_limits("sample_rate", own_rate, least=1, most=MOST_RATE)
    except (KeyError, ValueError) as error:
        raise DataError(f"the metadata of a model of asr must have text and sample_rate: {error}", path=path) from None
    return ForeignModel(
        name=metadata.get("name") or path.resolve().parent.name,
        network=network,
        labels=labels,
        sample_rate=own_rate if family.exact_batches or family.step > 1 else _sample_rate(path),
        samples_per_frame=_samples_per_frame(network, metadata, config),
        text=text or text_like(labels.alphabet),
        exact_batches=family.exact_batches,
        shortest_seconds=0 if family.exact_batches else SHORTEST_SECONDS,
    )


def find_onnx(folder: Path) -> Path | None:
    """The ONNX model of a folder, None if there is none; of several, model.onnx or the one in full precision.

    Raises:
        DataError: there are several, and none of them is the obvious one.
    """
    paths = sorted(folder.glob("*.onnx"))
    whole = [path for path in paths if not any(word in path.name for word in ("int8", "fp16", "quant"))]
    for candidates in (paths, [path for path in paths if path.name == "model.onnx"], whole):
        if len(candidates) == 1:
            return candidates[0]
    if not paths:
        return None
    names = ", ".join(path.name for path in paths)
    raise DataError(f"a folder must have one ONNX model, or model.onnx, but has {names}; name the file", path=folder)


def _family(path: Path, session: Any, metadata: Mapping[str, str], config: Mapping[str, Any]) -> Family:
    """The family, from the inputs and the metadata of the model.

    Raises:
        DataError: it is none of the known ones.
    """
    inputs, num_outputs = session.get_inputs(), len(session.get_outputs())
    if not inputs:
        raise DataError("an ONNX model must have an input", path=path)
    first = inputs[0]
    kind = metadata.get("model_type") or str(config.get("model_type", ""))
    if kind == OURS and len(first.shape) == 2:
        if (len(inputs), num_outputs) != (2, 2):
            raise DataError(
                f"a model of asr must have two inputs and two outputs; this one has {len(inputs)} and {num_outputs}",
                path=path,
            )
        return Family(_samples, time_axis=1, step=1, exact_batches=True)
    if len(first.shape) == 2:
        prepared = _normalized if _is_normalized(path, kind) else _samples
        return Family(inputs=prepared, time_axis=1, step=1)
    if len(first.shape) == 3 and first.name == "audio_signal":
        if metadata.get("is_giga_am", "0") not in ("", "0"):
            raise DataError("models of GigaAM have features of their own, which are not supported", path=path)
        normalization = metadata.get("normalize_type", "per_feature")
        if normalization not in ("per_feature", "", "NA"):
            raise DataError(f"normalize_type must be per_feature or empty, not {normalization!r}", path=path)
        bins = _num_bins(first.shape[1], config.get("features_size", 80), path=path)
        return Family(partial(_nemo, num_mel_bins=bins, normalized=normalization == "per_feature"), 2, HOP)
    if len(first.shape) == 3 and first.name == "x":
        bins = _num_bins(first.shape[2], 80, path=path)
        if kind == "wenet_ctc":
            prepared = partial(_kaldi, num_mel_bins=bins, scale=SAMPLE_SCALE, snip_edges=True, high_frequency=0.0)
            return Family(prepared, 1, HOP)
        if kind in ("zipformer2_ctc", "zipformer_ctc"):
            return Family(partial(_kaldi, num_mel_bins=bins), 1, HOP)
    named = ", ".join(f"{entry.name} {entry.shape}" for entry in inputs)
    raise DataError(
        "an ONNX model must be a CTC export of NeMo (input audio_signal), of icefall or WeNet (input x, metadata "
        f"model_type zipformer2_ctc or wenet_ctc), or of wav2vec 2.0 (samples); this one has the inputs {named} and "
        f"the model_type {kind or 'none'!r}",
        path=path,
    )


def _num_bins(length: object, otherwise: object, *, path: Path) -> int:
    """The mel filters of a model: the length of an axis, or another number if that may vary.

    Raises:
        DataError: it is no number, or so large that the features would not fit into memory.
    """
    bins = length if isinstance(length, int) else otherwise
    if type(bins) is not int or not 1 <= bins <= MOST_BINS:
        raise DataError(
            f"the model must take the energies of 1 to {MOST_BINS} mel filters, not {shown(bins)}", path=path
        )
    return bins


def _samples(waveform: np.ndarray) -> np.ndarray:
    return waveform[None]


def _normalized(waveform: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1, as Hugging Face's `Wav2Vec2FeatureExtractor` gives the samples."""
    deviation = np.sqrt(waveform.var(dtype=np.float64) + _NORMALIZED_EPSILON)
    return ((waveform - waveform.mean(dtype=np.float64)) / deviation).astype(np.float32)[None]


def _kaldi(waveform: np.ndarray, **options: Any) -> np.ndarray:
    return kaldi_features(waveform, **options)[None]


def _nemo(waveform: np.ndarray, **options: Any) -> np.ndarray:
    return np.ascontiguousarray(nemo_features(waveform, **options).T)[None]


def _is_normalized(path: Path, kind: str) -> bool:
    """Whether a model of samples takes them normalised."""
    if kind == "wav2vec2-ctc":  # of onnx-asr, which normalises inside the model
        return False
    settings = path.parent / SETTINGS_FILE
    if not settings.is_file():
        raise DataError(
            f"a model of samples must have a {SETTINGS_FILE} beside it, whose do_normalize says whether "
            "samples are normalised",
            path=path,
        )
    return bool(_read_config(settings).get("do_normalize", True))


def _sample_rate(path: Path) -> int:
    """Of the waveforms of a model of samples."""
    settings = path.parent / SETTINGS_FILE
    rate = _read_config(settings).get("sampling_rate", SAMPLE_RATE)
    if type(rate) is not int or not 1 <= rate <= MOST_RATE:
        raise DataError(f"sampling_rate must be a whole number from 1 to {MOST_RATE}, not {shown(rate)}", path=settings)
    return rate


def _samples_per_frame(network: OnnxNetwork, metadata: Mapping[str, str], config: Mapping[str, Any]) -> int:
    """As the metadata or the configuration says, otherwise counted."""
    for source in (metadata, config):
        text = str(source.get("subsampling_factor", ""))
        if text.isdecimal() and len(text) <= 6 and int(text) > 0:
            return int(text) * network.family.step
    return network.samples_per_frame()


def _labels(path: Path, session: Any, config: Mapping[str, Any]) -> Labels:
    """The labels beside a model.

    Raises:
        DataError: there is no file with labels, it cannot be read, or its blank is unknown.
    """
    file = next((path.parent / name for name in LABEL_FILES if (path.parent / name).is_file()), None)
    if file is None:
        raise DataError(f"the model's labels are missing: one of {', '.join(LABEL_FILES)} must be beside it", path=path)
    labels = read_labels(file)
    while labels and not labels[-1]:  # empty lines at the end of a file
        labels.pop()
    if file.name == "vocab.json":
        labels += _added_tokens(path.parent / "added_tokens.json", len(labels))
    num_columns = (session.get_outputs()[0].shape or [None])[-1]
    while isinstance(num_columns, int) and len(labels) > num_columns and not is_spoken(labels[-1]):
        labels.pop()  # a tokenizer may have more, such as <s>
    blank: str | int | None = config.get("pad_token_id") if "architectures" in config else None
    if blank is None:
        blank = next((name for name in BLANKS if labels.count(name) == 1), None)
    if num_columns == len(labels) + 1 and (blank is None or (isinstance(blank, str) and blank.lower() in PADS)):
        blank = APPEND  # of NeMo, whose tokenizers may have a <pad> that is no blank
    try:
        return Labels(labels, blank=blank)
    except InputError as error:
        raise DataError(str(error), path=file) from None


def _added_tokens(path: Path, first: int) -> list[str]:
    """The labels that a tokenizer of Hugging Face has after those of its vocabulary, from column `first` on."""
    added = {column: label for label, column in _read_config(path).items() if isinstance(column, int)}
    return list(takewhile(bool, (added.get(column, "") for column in count(first))))


def _read_config(path: Path) -> Mapping[str, Any]:
    """The JSON object of a file; empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        values = read_json(path)
    except (ValueError, OSError) as error:
        raise DataError(f"this configuration cannot be read as JSON: {error}", path=path) from None
    if not isinstance(values, dict):
        raise DataError("this configuration must be a JSON object", path=path)
    return values

"""ONNX exports of each family, beside the networks from which they were exported.

The networks of icefall, WeNet and NeMo are small stand-ins with the same inputs, outputs and metadata, see
`tests.foreign_models`; the features are computed by the libraries that these toolkits use. wav2vec 2.0 is the true one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from asr.acoustic.foreign.model import ForeignModel
from asr.acoustic.foreign.onnx_export import find_onnx, load_onnx
from asr.compute.onnx_graph import Graph
from asr.errors import ConfigError, DataError, InputError
from tests import foreign_models

SOUNDS = 24_000, 11_111, 48_001


def in_order(log_probs: np.ndarray, labels: tuple[str, ...], silent: tuple[int, ...], blank: int) -> np.ndarray:
    """(T, K) the blank with the silent columns, then the spoken ones."""
    spoken = [column for column in range(len(labels)) if column not in silent and column != blank]
    first = np.logaddexp.reduce(log_probs[:, [blank, *silent]], axis=1, keepdims=True)
    return np.concatenate([first, log_probs[:, spoken]], axis=1)


def prepared(path: Path) -> ForeignModel:
    model = load_onnx(path)
    model.prepare("cpu", "auto")
    return model


def kaldi_native(waveform: np.ndarray) -> np.ndarray:
    """The features of icefall's models, by the library of sherpa-onnx."""
    fbank = pytest.importorskip("kaldi_native_fbank")
    options = fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.snip_edges = 0, False
    options.mel_opts.num_bins, options.mel_opts.low_freq, options.mel_opts.high_freq = 80, 20, -400
    computer = fbank.OnlineFbank(options)
    computer.accept_waveform(16_000, waveform.tolist())
    computer.input_finished()
    return np.array([computer.get_frame(i) for i in range(computer.num_frames_ready)], dtype=np.float32)


def of_wenet(waveform: np.ndarray) -> np.ndarray:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    samples = torch.from_numpy(waveform)[None] * 32768
    return kaldi.fbank(samples, num_mel_bins=80, dither=0.0, energy_floor=0.0, sample_frequency=16_000).numpy()


def of_nemo(waveform: np.ndarray) -> np.ndarray:
    pytest.importorskip("transformers")
    from transformers import ParakeetFeatureExtractor

    values = ParakeetFeatureExtractor()([waveform], sampling_rate=16_000, return_tensors="pt")
    return values["input_features"][0][: int(values["attention_mask"].sum())].numpy()


def write_nemo(folder: Path, **metadata: Any) -> foreign_models.NemoLike:
    torch.manual_seed(0)
    network = foreign_models.NemoLike(len(foreign_models.NEMO_PIECES) + 1)
    inputs = {"audio_signal": torch.zeros(1, 80, 100), "length": torch.tensor([100])}
    path = folder / "model.onnx"
    foreign_models.export(network, path, inputs, ["logprobs"], time_axis=2, metadata=metadata)
    return network


@pytest.mark.parametrize(
    ("features", "lengths", "metadata"),
    [
        (kaldi_native, "log_probs_len", {"model_type": "zipformer2_ctc", "comment": "non-streaming zipformer2 CTC"}),
        (of_wenet, "log_probs_lens", {"model_type": "wenet_ctc", "subsampling_factor": 4, "vocab_size": 8}),
    ],
)
def test_exports_of_icefall_and_wenet(
    tmp_path: Path, rng: np.random.Generator, features: Any, lengths: str, metadata: dict[str, Any]
) -> None:
    network = foreign_models.write_subsampled(tmp_path, lengths=lengths, **metadata)
    model = prepared(tmp_path / "model.onnx")
    assert (model.sample_rate, model.samples_per_frame, model.frame_seconds) == (16_000, 640, 0.04)
    assert model.alphabet.decode([1, 2, 3]) == " thes "
    sounds = foreign_models.waveforms(rng, *SOUNDS)
    for waveform, log_probs in zip(sounds, model.log_probs(sounds), strict=True):
        values = torch.from_numpy(features(waveform))[None]
        with torch.no_grad():
            expected, _ = network(values, torch.tensor([values.shape[1]]))
        assert expected[0].std(dim=0).max() > 0.1  # the frames differ
        expected = in_order(expected[0].numpy(), foreign_models.PIECES, (1,), 0)
        np.testing.assert_allclose(log_probs, expected, atol=1e-4)


def nemo_labels(folder: Path, layout: str) -> dict[str, Any]:
    """The labels as sherpa-onnx, onnx-asr or NeMo write them; the metadata of the model."""
    pieces = foreign_models.NEMO_PIECES
    if layout == "sherpa-onnx":
        foreign_models.write_tokens(folder / "tokens.txt", (*pieces, "<blk>"))
        return {"model_type": "EncDecCTCModelBPE", "subsampling_factor": 8, "normalize_type": "per_feature"}
    if layout == "onnx-asr":
        foreign_models.write_tokens(folder / "vocab.txt", (*pieces, "<blk>"))
        values = {"model_type": "nemo-conformer-ctc", "features_size": 80, "subsampling_factor": 8}
        (folder / "config.json").write_text(json.dumps(values))
    else:
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return {}


@pytest.mark.parametrize("layout", ["sherpa-onnx", "onnx-asr", "plain"])
def test_exports_of_nemo(tmp_path: Path, rng: np.random.Generator, layout: str) -> None:
    network = write_nemo(tmp_path, **nemo_labels(tmp_path, layout))
    model = prepared(tmp_path / "model.onnx")
    assert (model.samples_per_frame, model.labels.blank_column) == (1280, 7)
    sounds = foreign_models.waveforms(rng, *SOUNDS)
    for waveform, log_probs in zip(sounds, model.log_probs(sounds), strict=True):
        values = torch.from_numpy(of_nemo(waveform)).T[None]
        with torch.no_grad():
            expected = network(values, torch.tensor([values.shape[2]]))[0].numpy()
        expected = in_order(expected, (*foreign_models.NEMO_PIECES, "<blk>"), (0,), 7)
        np.testing.assert_allclose(log_probs, expected, atol=1e-4)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_exports_of_wav2vec2(tmp_path: Path, rng: np.random.Generator, normalize: bool, mask: bool) -> None:
    """Exported as by optimum: input_values, with or without attention_mask, to logits."""
    pytest.importorskip("transformers")
    from transformers import AutoFeatureExtractor

    network = foreign_models.write_wav2vec2(tmp_path, norm="layer" if mask else "group", normalize=normalize)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network

        def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
            return self.model(input_values, attention_mask=attention_mask).logits

    inputs = {"input_values": torch.randn(1, 16_000)}
    if mask:
        inputs["attention_mask"] = torch.ones(1, 16_000, dtype=torch.int64)
    (tmp_path / "model.safetensors").unlink()
    foreign_models.export(Logits(), tmp_path / "model.onnx", inputs, ["logits"])
    model = prepared(tmp_path / "model.onnx")
    assert model.samples_per_frame == foreign_models.STRIDE
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    sounds = foreign_models.waveforms(rng, *SOUNDS)
    for waveform, log_probs in zip(sounds, model.log_probs(sounds), strict=True):
        values = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            expected = network(values["input_values"]).logits[0].log_softmax(dim=1).numpy()
        np.testing.assert_allclose(log_probs, in_order(expected, foreign_models.LETTERS, (1, 2, 3), 0), atol=1e-4)


@pytest.mark.parametrize(
    ("num_columns", "vocabulary", "added", "blank"),
    [
        (6, ["a", "|", "<unk>", "<pad>"], {"</s>": 5, "<s>": 4}, 3),  # columns for the added tokens
        (4, ["a", "|", "<unk>", "<pad>"], {"</s>": 5, "<s>": 4}, 3),  # and none
        (4, ["a", "|", "<unk>", "<pad>", "<s>"], {}, 3),
    ],
)
def test_added_tokens_may_have_columns(
    tmp_path: Path, num_columns: int, vocabulary: list[str], added: dict[str, int], blank: int
) -> None:
    """As many tokenizers of wav2vec 2.0 have them; the model takes 8 kHz."""

    class Frames(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = torch.nn.Linear(320, num_columns)

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return self.output(samples[:, : samples.shape[1] // 320 * 320].reshape(samples.shape[0], -1, 320))

    foreign_models.export(Frames(), tmp_path / "model.onnx", {"input_values": torch.zeros(1, 960)}, ["logits"])
    foreign_models.write_vocabulary(tmp_path / "vocab.json", vocabulary)
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Wav2Vec2ForCTC"], "pad_token_id": 3}))
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text('{"do_normalize": false, "sampling_rate": 8000}')
    model = prepared(tmp_path / "model.onnx")
    assert (model.labels.num_columns, model.labels.blank_column, model.labels.columns) == (num_columns, blank, [0, 1])
    assert (model.sample_rate, model.frame_seconds) == (8000, 0.04)
    assert model.log_probs([np.zeros(8000, np.float32)])[0].shape == (25, 3)
    settings.write_text('{"do_normalize": false, "sampling_rate": "8k"}')
    with pytest.raises(DataError, match="sampling_rate must be a whole number from 1 to 1000000, not '8k'"):
        load_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("pad", ["[PAD]", "<pad>"])
def test_a_column_after_the_labels_is_the_blank_of_nemo_though_there_is_a_pad(tmp_path: Path, pad: str) -> None:
    write_nemo(tmp_path)
    (tmp_path / "vocab.txt").write_text(f"{pad}\nthe\n##s\na\nb\nc\nd\n")
    labels = prepared(tmp_path / "model.onnx").labels
    assert (labels.blank_column, labels.num_columns, labels.columns) == (7, 8, [1, 2, 3, 4, 5, 6])


def test_a_model_may_take_half_precision(tmp_path: Path, rng: np.random.Generator) -> None:
    class Frames(torch.nn.Module):
        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return samples[:, : samples.shape[1] // 160 * 160].reshape(samples.shape[0], -1, 160)[..., :3]

    inputs = {"input_values": torch.zeros(1, 960).half()}
    foreign_models.export(Frames(), tmp_path / "model.onnx", inputs, ["logits"])
    foreign_models.write_tokens(tmp_path / "tokens.txt", ("<blk>", "a", "b"))
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    waveform = rng.normal(0, 0.1, 16_000).astype(np.float32)
    (log_probs,) = prepared(tmp_path / "model.onnx").log_probs([waveform])
    expected = torch.from_numpy(waveform).reshape(100, 160)[:, :3].log_softmax(dim=1).numpy()
    np.testing.assert_allclose(log_probs, expected, atol=1e-3)


def test_short_sound_has_frames_too(tmp_path: Path, rng: np.random.Generator) -> None:
    foreign_models.write_subsampled(tmp_path, lengths="log_probs_len", model_type="zipformer2_ctc")
    model = prepared(tmp_path / "model.onnx")
    assert [len(log_probs) for log_probs in model.log_probs(foreign_models.waveforms(rng, 1, 640, 641))] == [1, 1, 2]


def test_devices(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    write_nemo(tmp_path, **nemo_labels(tmp_path, "sherpa-onnx"))
    model = load_onnx(tmp_path / "model.onnx")
    assert (model.prepare("cpu", "auto"), model.prepare("auto", "auto")) == (("cpu", None), ("cpu", None))
    with pytest.raises(InputError, match="device cuda:0 needs onnxruntime-gpu: this onnxruntime computes on the proc"):
        model.prepare("cuda:0", "auto")
    with pytest.raises(InputError, match="device must be auto, cpu or a CUDA device of this machine, not 'tpu'"):
        model.prepare("tpu", "auto")


def test_another_precision_is_refused(tmp_path: Path) -> None:
    write_nemo(tmp_path, **nemo_labels(tmp_path, "sherpa-onnx"))
    with pytest.raises(ConfigError, match="precision must be auto for an ONNX model, which has its own; got bfloat16"):
        load_onnx(tmp_path / "model.onnx").prepare("cpu", "bfloat16")


def write_other(folder: Path) -> None:
    inputs = {"features": torch.zeros(1, 100, 80), "n": torch.tensor([100])}
    foreign_models.export(foreign_models.Subsampled(8), folder / "model.onnx", inputs, ["log_probs", "lengths"])


def write_samples(folder: Path) -> None:
    class Frames(torch.nn.Module):
        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return samples[:, : samples.shape[1] // 8 * 8].reshape(samples.shape[0], -1, 8)

    foreign_models.export(Frames(), folder / "model.onnx", {"samples": torch.zeros(1, 800)}, ["logits"])


def write_static(folder: Path) -> None:
    """An export without dynamic axes gives the same number of frames for any sound, or an error of onnxruntime."""
    torch.manual_seed(0)
    inputs = torch.zeros(1, 100, 80), torch.tensor([100])
    path = str(folder / "model.onnx")
    network = foreign_models.Subsampled(8).eval()
    torch.onnx.export(network, inputs, path, input_names=["x", "x_lens"], output_names=["y", "n"], dynamo=False)
    import onnx

    document = onnx.load(path)
    entry = document.metadata_props.add()
    entry.key, entry.value = "model_type", "zipformer2_ctc"
    onnx.save(document, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"no model"), "onnxruntime cannot read this model: "),
        (write_other, r"must be a CTC export .*; this one has the inputs features .* and the model_type 'none'"),
        (write_samples, "a model of samples must have a preprocessor_config.json beside it, whose do_normalize"),
        (write_static, "onnxruntime cannot compute this model: "),
        (
            lambda folder: write_nemo(folder, normalize_type="all_features"),
            "must be per_feature or empty, not 'all_",
        ),
        (lambda folder: write_nemo(folder, is_giga_am=1), "GigaAM have features of their own, which are not"),
        (lambda folder: write_nemo(folder), "labels are missing: one of tokens.txt, vocab.txt, .* must be beside it"),
        (
            lambda folder: (write_nemo(folder), (folder / "config.json").write_text("{")),
            "config.json: this configuration cannot be read as JSON: ",
        ),
    ],
)
def test_unusable_exports(tmp_path: Path, write: Any, message: str) -> None:
    write(tmp_path)
    if "labels" not in message:
        foreign_models.write_tokens(tmp_path / "tokens.txt", foreign_models.PIECES)
    with pytest.raises(DataError, match=message):
        load_onnx(tmp_path / "model.onnx")


def test_the_number_of_labels_is_checked(tmp_path: Path, rng: np.random.Generator) -> None:
    write_nemo(tmp_path)
    foreign_models.write_tokens(tmp_path / "tokens.txt", ("<blk>", "a", "b"))
    with pytest.raises(DataError, match="must have a label for each of its 8 outputs; it has 3 labels"):
        prepared(tmp_path / "model.onnx").log_probs(foreign_models.waveforms(rng, 16_000))


def test_outputs_that_are_not_numbers_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    network = write_nemo(tmp_path, **nemo_labels(tmp_path, "sherpa-onnx"))
    network.output.bias.data[3] = float("nan")
    inputs = {"audio_signal": torch.zeros(1, 80, 100), "length": torch.tensor([100])}
    metadata = {"subsampling_factor": 8}
    path = tmp_path / "model.onnx"
    foreign_models.export(network, path, inputs, ["logprobs"], time_axis=2, metadata=metadata)
    with pytest.raises(DataError, match="the model's outputs must be numbers; it gives NaN or inf"):
        prepared(path).log_probs(foreign_models.waveforms(rng, 16_000))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), None),
        (("ctc.onnx",), "ctc.onnx"),
        (("model.int8.onnx", "model.onnx"), "model.onnx"),
        (("epoch-30.int8.onnx", "epoch-30.onnx"), "epoch-30.onnx"),
        (("a.onnx", "b.onnx"), "must have one ONNX model, or model.onnx, but has a.onnx, b.onnx; name the file"),
    ],
)
def test_the_model_of_a_folder(tmp_path: Path, names: tuple[str, ...], expected: str | None) -> None:
    for name in names:
        (tmp_path / name).touch()
    if expected and " " in expected:
        with pytest.raises(DataError, match=expected):
            find_onnx(tmp_path)
    else:
        path = find_onnx(tmp_path)
        assert (path and path.name) == expected


def test_texts_are_those_of_onnx_asr(tmp_path: Path, rng: np.random.Generator) -> None:
    """Greedy, on the same folder; <unk>, which it writes and we count as the blank, never has the highest output."""
    onnx_asr = pytest.importorskip("onnx_asr")
    import asr

    network = write_nemo(tmp_path, **nemo_labels(tmp_path, "onnx-asr"))
    network.output.bias.data[0] = -100
    inputs = {"audio_signal": torch.zeros(1, 80, 100), "length": torch.tensor([100])}
    foreign_models.export(network, tmp_path / "model.onnx", inputs, ["logprobs"], time_axis=2)
    theirs, ours = onnx_asr.load_model("nemo-conformer-ctc", tmp_path), asr.load(tmp_path, device="cpu")
    for waveform in foreign_models.waveforms(rng, *rng.integers(16_000, 200_000, 8).tolist()):
        text = ours.transcribe((waveform, 16_000)).text
        assert text and text == " ".join(theirs.recognize(waveform, sample_rate=16_000).split())


# --- hostile files


OWN = {"model_type": "asr", "text": '{"language": "en"}', "sample_rate": "16000", "subsampling_factor": "160"}
TOKENS = "<blk> 0\na 1\nb 2\n"


def hostile_folder(
    folder: Path,
    *,
    inputs: Sequence[tuple[str, Any, tuple[int | str, ...]]] = (("samples", np.float32, ("B", "N")),),
    rank: int = 3,
    outputs: int = 1,
    metadata: Mapping[str, str] = MappingProxyType({}),
    tokens: str = TOKENS,
    config: str = "{}",
) -> Path:
    """A folder with a small model of any inputs and outputs, which are zeros."""
    graph = Graph()
    for name, dtype, shape in inputs:
        graph.input(name, dtype, *shape)
    for number in range(outputs):
        zeros = graph.constant(np.zeros((1, 4, 3)[:rank], np.float32))
        graph.output(f"output_{number}", zeros.apply("Identity"), *(1, 4, 3)[:rank])
    (folder / "model.onnx").write_bytes(graph.to_bytes({}, metadata=metadata))
    (folder / "tokens.txt").write_text(tokens)
    (folder / "config.json").write_text(config)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    return folder / "model.onnx"


def nemo(length: int | str) -> tuple[tuple[str, Any, tuple[int | str, ...]], ...]:
    return (("audio_signal", np.float32, ("B", length, "T")),)


TWO = (("samples", np.float32, ("B", "N")), ("lengths", np.int64, ("B",)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"inputs": ()}, "an ONNX model must have an input"),
        ({"metadata": OWN, "outputs": 2}, "a model of asr must have two inputs and two outputs; this one has 1 and 2"),
        ({"inputs": TWO, "metadata": OWN}, "a model of asr must have two inputs and two outputs; this one has 2 and 1"),
        (
            {"inputs": TWO, "outputs": 2, "metadata": OWN | {"sample_rate": "0"}},
            "sample_rate must be between 1 and 1000000, not 0",
        ),
        ({"inputs": TWO, "outputs": 2, "metadata": OWN | {"text": 100_000 * "["}}, "it is nested too deep"),
        ({"rank": 0}, r"must have three axes \(batch, frames, labels\); it has 0"),
        ({"rank": 2, "metadata": {"subsampling_factor": "320"}}, "must have three axes .*; it has 2"),
        ({"inputs": nemo(10**8)}, "must take the energies of 1 to 1024 mel filters, not 100000000"),
        ({"inputs": nemo("M"), "config": '{"features_size": "x"}'}, "of 1 to 1024 mel filters, not 'x'"),
        ({"inputs": nemo("M"), "config": '{"features_size": null}'}, "of 1 to 1024 mel filters, not None"),
        ({"tokens": "a 0\nb 1\nc 2\n"}, r"tokens\.txt: labels must have one blank"),
        (
            {"config": '{"architectures": ["X"], "pad_token_id": 99}'},
            r"tokens\.txt: blank must be a label or a column, 0 \.\. 2; got 99",
        ),
    ],
)
def test_hostile_models_are_refused_in_a_sentence(tmp_path: Path, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_onnx(hostile_folder(tmp_path, **parts)).log_probs([np.zeros(16_000, np.float32)])


def test_a_subsampling_factor_of_many_digits_is_counted_instead(tmp_path: Path) -> None:
    path = hostile_folder(tmp_path, metadata={"subsampling_factor": "9" * 5000})
    with pytest.raises(DataError, match="the model must give more frames for longer sound"):
        load_onnx(path)

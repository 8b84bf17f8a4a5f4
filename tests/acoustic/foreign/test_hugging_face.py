"""Folders of Hugging Face, beside `transformers` itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from asr.acoustic.foreign.hugging_face import load_hugging_face
from asr.acoustic.foreign.model import ForeignModel
from asr.errors import ConfigError, DataError
from tests import foreign_models

SOUNDS = 24_000, 11_111, 48_001
SILENT, SPOKEN = [0, 1, 2, 3], [4, 5, 6, 7, 8, 9, 10]  # columns of `foreign_models.LETTERS`


def prepared(folder: Path) -> ForeignModel:
    model = load_hugging_face(folder)
    assert model.prepare("cpu", "auto") == (torch.device("cpu"), torch.float32)
    return model


def library_log_probs(folder: Path, network: Any, waveform: np.ndarray) -> np.ndarray:
    """As the model cards say: the feature extractor of the folder, then the model, one utterance at a time."""
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        logits = network(**extractor(waveform, sampling_rate=16_000, return_tensors="pt")).logits
    return logits[0].log_softmax(dim=1).double().numpy()


def in_order(log_probs: np.ndarray, silent: list[int], spoken: list[int]) -> np.ndarray:
    return np.concatenate([np.logaddexp.reduce(log_probs[:, silent], axis=1, keepdims=True), log_probs[:, spoken]], 1)


@pytest.mark.parametrize(
    ("family", "norm", "normalize", "exact_batches"),
    [
        ("Wav2Vec2", "group", True, False),
        ("Wav2Vec2", "layer", True, True),
        ("Wav2Vec2", "layer", False, True),
        ("Hubert", "layer", True, True),
        ("WavLM", "layer", True, True),
        ("UniSpeech", "layer", True, True),
        ("UniSpeechSat", "layer", True, True),
        ("SEW", "layer", True, False),
    ],
)
def test_families_of_samples(
    tmp_path: Path, rng: np.random.Generator, family: str, norm: str, normalize: bool, exact_batches: bool
) -> None:
    network = foreign_models.write_wav2vec2(tmp_path, family=family, norm=norm, normalize=normalize)
    model = prepared(tmp_path)
    assert (model.sample_rate, model.samples_per_frame) == (16_000, foreign_models.STRIDE)
    assert (model.exact_batches, model.labels.blank_column) == (exact_batches, 0)
    assert model.alphabet.decode(range(1, 8)) == " ETAON'"
    assert (model.text.case, model.text.punctuation) == ("upper", "drop")
    sounds = foreign_models.waveforms(rng, *SOUNDS)
    for waveform, log_probs in zip(sounds, model.log_probs(sounds), strict=True):
        expected = in_order(library_log_probs(tmp_path, network, waveform), SILENT, SPOKEN)
        np.testing.assert_allclose(log_probs, expected, atol=1e-4)


def test_a_group_norm_sees_padding(tmp_path: Path, rng: np.random.Generator) -> None:
    """So the network in a batch gives something else, and `exact_batches` is needed."""
    foreign_models.write_wav2vec2(tmp_path, norm="group")
    model = prepared(tmp_path)
    sounds = foreign_models.waveforms(rng, 30_000, 10_000)
    together, alone = model.network.outputs(sounds), model.network.outputs(sounds[1:])
    assert np.abs(together[1] - alone[0]).max() > 0.01


def write_parakeet(folder: Path) -> Any:
    """A small ParakeetForCTC with a tokenizer.json of pieces; the pad token, its blank, is the last column."""
    import tokenizers
    from transformers import ParakeetCTCConfig, ParakeetEncoderConfig, ParakeetFeatureExtractor, ParakeetForCTC

    pieces = [(piece, -1.0) for piece in foreign_models.NEMO_PIECES]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    tokenizer.add_special_tokens(["<pad>"])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    torch.manual_seed(0)
    encoder = ParakeetEncoderConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        subsampling_conv_channels=16,
    )
    config = ParakeetCTCConfig(vocab_size=len(pieces) + 1, encoder_config=encoder.to_dict(), pad_token_id=len(pieces))
    network = ParakeetForCTC(config).eval()
    for parameter in network.ctc_head.parameters():
        parameter.data *= 50
    network.save_pretrained(folder)
    ParakeetFeatureExtractor().save_pretrained(folder)
    return network


def test_parakeet(tmp_path: Path, rng: np.random.Generator) -> None:
    """Features in, pieces out, the blank last."""
    network = write_parakeet(tmp_path)
    model = prepared(tmp_path)
    assert (model.samples_per_frame, model.exact_batches, model.labels.blank_column) == (1280, True, 7)
    assert model.alphabet.decode([1, 2]) == " thes"
    sounds = foreign_models.waveforms(rng, *SOUNDS)
    results = model.log_probs(sounds)
    for waveform, log_probs in zip(sounds, results, strict=True):
        expected = in_order(library_log_probs(tmp_path, network, waveform), [7, 0], [1, 2, 3, 4, 5, 6])
        assert len(log_probs) == -(-(len(waveform) // 160) // 8)
        np.testing.assert_allclose(log_probs, expected[: len(log_probs)], atol=1e-4)


def test_tokens_without_a_column_and_columns_without_a_token(tmp_path: Path, rng: np.random.Generator) -> None:
    """Tokenizers often have <s> and </s> behind the columns of the model, and a model may have spare columns."""
    foreign_models.write_wav2vec2(tmp_path)
    foreign_models.write_vocabulary(tmp_path / "vocab.json", ("<pad>", "|", "E", "T", "A", "O", "N"))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Wav2Vec2CTCTokenizer", "bos_token": "<s>", "eos_token": "</s>"})
    )
    model = prepared(tmp_path)
    assert model.alphabet.decode(range(1, model.alphabet.size)) == " ETAON"
    assert model.log_probs(foreign_models.waveforms(rng, 16_000))[0].shape == (49, 7)


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def drop_output(folder: Path) -> None:
    """The weights of a model that was only pretrained."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("lm_head")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_output, r"weight 'lm_head.bias' is missing \(2 are missing\)"),
        (lambda folder: change_config(folder, pad_token_id=11), "the blank, must be a column, 0 .. 10, not 11"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"?"),
            "model of Hugging Face cannot be read: ",
        ),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "model of Hugging Face cannot be read: "),
    ],
)
def test_unusable_folders(tmp_path: Path, damage: Any, message: str) -> None:
    foreign_models.write_wav2vec2(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        load_hugging_face(tmp_path)


def test_without_transformers_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"which needs transformers: pip install 'asr\[pretrained\]'"):
        load_hugging_face(tmp_path)


def test_a_vocabulary_for_each_language(tmp_path: Path) -> None:
    """MMS has one; tokenizer_config.json says which is used."""
    foreign_models.write_wav2vec2(tmp_path)
    french = ("<pad>", "|", "É", "T", "A")
    vocabularies = {
        language: {label: column for column, label in enumerate(labels)}
        for language, labels in (("eng", foreign_models.LETTERS), ("fra", french))
    }
    (tmp_path / "vocab.json").write_text(json.dumps(vocabularies))
    names = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "target_lang": "fra"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    assert load_hugging_face(tmp_path).alphabet.decode(range(1, 5)) == " ÉTA"

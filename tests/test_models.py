"""What comes with the package: `an4` on AN4's test set, alone and in batches, in both precisions, glued; `english` on
voices that it has never heard; and that all of it is small, and says where it comes from.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import asr
from asr.acoustic.config import read_config
from asr.acoustic.folder import embedded_models, find_model
from asr.audio.waveform import read_audio
from asr.corpora import an4
from asr.data.manifest import read_manifest
from asr.files.model_config import embedded_folders
from asr.lm.recurrent import embedded_language_models
from asr.recognition.recognizer import Recognizer
from asr.text.metrics import wer
from asr.text.normalization import normalize
from tests.processors import needs_bfloat16

CORPUS = Path(os.environ.get("ASR_AN4", "../shared/corpora/an4"))
TEST_CLEAN = Path(os.environ.get("ASR_ENGLISH", "../shared/corpora/english")) / "librispeech_test_clean"
SAMPLE = Path(__file__).parent / "audio" / "cen8-mmxg-b.flac"
MERCHANT = Path(__file__).parent / "audio" / "merchant.flac"
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"AN4 is not at {CORPUS} (set ASR_AN4)")
needs_test_clean = pytest.mark.skipif(not TEST_CLEAN.is_dir(), reason=f"no speech at {TEST_CLEAN} (set ASR_ENGLISH)")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return asr.load("an4", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def test_set(tmp_path_factory) -> tuple[list[np.ndarray], list[str]]:
    """Waveforms and references of the 130 utterances."""
    manifests = an4.prepare(source=CORPUS, output=tmp_path_factory.mktemp("an4"))
    utterances = read_manifest(manifests["test"])
    text = read_config(embedded_models()["an4"]).text
    return (
        [read_audio(utterance.audio) for utterance in utterances],
        [normalize(utterance.text, text) for utterance in utterances],
    )


@pytest.fixture(scope="module")
def texts(recognizer, test_set) -> list[str]:
    waveforms, _ = test_set
    return [transcript.text for transcript in recognizer.transcribe_many([(waveform, 16000) for waveform in waveforms])]


def test_they_are_small():
    folders = {**embedded_models(), **embedded_language_models(), **embedded_folders("readable model")}
    sizes = {name: sum(path.stat().st_size for path in folder.rglob("*.*")) for name, folder in folders.items()}
    assert sizes["an4"] < 15e6
    assert sizes["english"] + sizes["english-lm"] < 50e6
    assert sizes["readable-en"] < 5e6
    assert sum(sizes.values()) < 65e6


def test_the_default_is_general_english():
    assert find_model() == embedded_models()["english"]


def test_a_recording_of_its_test_set_comes_out_right(recognizer):
    transcript = recognizer.transcribe(SAMPLE)
    assert transcript.text == "OCTOBER TWENTY FOUR NINETEEN SEVENTY"
    assert [word.text for word in transcript.words] == transcript.text.split()


@needs_corpus
def test_error_rate_is_what_the_provenance_says(recognizer, test_set, texts):
    _, references = test_set
    claimed = recognizer.model.config.provenance["results"]["test, beam of 100"]["wer"]["rate"]
    assert sum(len(reference.split()) for reference in references) == 773
    assert wer(references, texts) == pytest.approx(
        claimed, abs=0.004
    )  # three words: another processor rounds otherwise


@needs_corpus
def test_padding_does_not_leak_into_any_utterance(recognizer, test_set, texts):
    waveforms, _ = test_set
    model = asr.load("an4", device="cpu", precision="float32", runtime="torch").model
    order = sorted(range(len(waveforms)), key=lambda index: index % 7)  # ragged batches, not sorted by length
    with torch.inference_mode():
        for begin in range(0, len(order), 26):
            rows = order[begin : begin + 26]
            lengths = torch.tensor([len(waveforms[row]) for row in rows])
            padded = torch.randn(len(rows), int(lengths.max()))  # whatever stands behind an utterance
            for target, row in zip(padded, rows, strict=True):
                target[: len(waveforms[row])] = torch.from_numpy(waveforms[row].copy())
            batch, frames = model(padded, lengths)
            for emission, count, row in zip(batch, frames.tolist(), rows, strict=True):
                waveform = torch.from_numpy(waveforms[row].copy())[None]
                alone, _ = model(waveform, torch.tensor([waveform.shape[1]]))
                assert (emission[:count] - alone[0]).abs().max() < 1e-4
                assert recognizer.decoder.decode(emission[:count]).text == texts[row]


@needs_bfloat16
@needs_corpus
def test_bfloat16_gives_the_same_texts_but_for_a_handful(test_set, texts):
    waveforms, references = test_set
    half = asr.load("an4", device="cpu", precision="bfloat16")
    others = [transcript.text for transcript in half.transcribe_many([(waveform, 16000) for waveform in waveforms])]
    different = sum(one != other for one, other in zip(texts, others, strict=True))
    assert different <= 8
    assert abs(wer(references, texts) - wer(references, others)) <= 0.01


@needs_corpus
def test_the_test_set_glued_into_one_file_loses_at_most_one_percent(recognizer, test_set, texts):
    waveforms, references = test_set
    glued = recognizer.transcribe((np.concatenate(waveforms), 16000))
    assert wer(" ".join(references), glued.text) <= wer(references, texts) + 0.01


@pytest.mark.parametrize("decibels", [-90, -60, -40])
def test_noise_without_speech_says_next_to_nothing(recognizer, rng, decibels):
    noise = 10 ** (decibels / 20) * rng.standard_normal(20 * 16000)
    assert len(recognizer.transcribe((noise.astype(np.float32), 16000)).words) <= 1


@pytest.fixture(scope="module")
def english() -> Recognizer:
    return asr.load("english", device="cpu")


@needs_test_clean
def test_english_follows_new_voices_about_as_well_as_it_says(english):
    """An utterance of each of LibriSpeech's test-clean readers, of whom training has heard none."""
    with open(TEST_CLEAN / "manifest.tsv", encoding="utf-8", newline="") as file:
        rows = {row["speaker"]: row for row in csv.DictReader(file, delimiter="\t")}
    said = [normalize(row["transcript"], english.model.config.text) for row in rows.values()]
    sounds = (TEST_CLEAN / row["path"] for row in rows.values())
    heard = [each.text for each in english.transcribe_many(sounds, style="raw")]
    results = english.model.config.provenance["results"]
    claimed, greedy = (results[f"librispeech_test_clean-test{way}"]["wer"]["rate"] for way in (", 3-gram and RNN", ""))
    assert len(said) == 34
    assert wer(said, heard) == pytest.approx(claimed, abs=0.05) and wer(said, heard) < greedy


@pytest.mark.parametrize("silent_samples", [0, 480])
def test_english_writes_no_words_run_together(english, silent_samples):
    """With 30 ms of silence in front, three words were MURCHANDCUNDERSTOUODWHITH, one of 25 letters."""
    waveform = np.concatenate([np.zeros(silent_samples, dtype=np.float32), read_audio(MERCHANT)])
    transcript = english.transcribe((waveform, 16000))
    assert transcript.raw_text == "BUT THE MERCHANT UNDERSTOOD WHAT THE BOY HAD SAID"
    assert transcript.text == "But the merchant understood what the boy had said."


def test_english_names_every_corpus_that_it_learnt_from_with_its_licence():
    corpora = read_config(embedded_models()["english"]).provenance["corpora"]
    assert {"an4", "librispeech_train_clean_5", "common_voice_v1_dev", "speechocean762"} <= set(corpora)
    for credit in corpora.values():
        assert re.search("CC0|CC BY|public domain|free of restrictions|BSD", credit), credit
        assert not re.search(r"\b(NC|ND|SA)\b", credit), credit


@pytest.mark.parametrize("decibels", [-90, -60, -40])
def test_english_hears_no_words_in_noise(english, rng, decibels):
    noise = 10 ** (decibels / 20) * rng.standard_normal(20 * 16000)
    assert len(english.transcribe((noise.astype(np.float32), 16000)).words) <= 1

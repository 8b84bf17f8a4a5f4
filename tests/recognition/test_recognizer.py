"""The recogniser on real parts: a small trained model of tones, long sound, many files, broken files."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile

import asr
from asr.acoustic.config import ModelConfig
from asr.acoustic.folder import embedded_models, find_model
from asr.acoustic.model import AcousticModel
from asr.acoustic.options import EncoderOptions
from asr.ctc.collapse import collapse
from asr.errors import ConfigError, DataError, InputError
from asr.recognition import recognizer as recognizers
from asr.recognition.pieces import LONGEST_PIECE, read_pieces
from asr.recognition.recognizer import Recognizer
from asr.recognition.stretches import quietest_frame
from asr.text.metrics import character_errors, word_errors
from asr.text.segments import find_segments
from tests import tones
from tests.tones import speak

RATE = 8000
BEAM = asr.DecodingOptions.of(beam_width=16)


@pytest.fixture(scope="module")
def recognizer(tone_run) -> Recognizer:
    folder, _ = tone_run
    return asr.load(folder / "model", device="cpu", precision="float32")


def sentence(rng: np.random.Generator, num_words: int) -> str:
    return " ".join("".join(rng.choice(list("ABC"), rng.integers(1, 4))) for _ in range(num_words))


def test_another_way_of_decoding_changes_what_it_names_and_nothing_else(recognizer):
    wide = recognizer.with_decoding({"beam_width": 8, "confidence_temperature": 2.0})
    more = wide.with_decoding({"num_best": 2})
    assert wide.decoder.options == asr.DecodingOptions.of(beam_width=8, confidence_temperature=2.0)
    assert more.decoder.options == asr.DecodingOptions.of(beam_width=8, confidence_temperature=2.0, num_best=2)
    assert more.with_decoding(asr.DecodingOptions()).decoder.options == asr.DecodingOptions()
    with pytest.raises(ConfigError, match="unknown option 'beams'"):
        recognizer.with_decoding({"beams": 1})


def test_a_file_object_a_path_and_an_array_give_the_same_transcript(recognizer, rng, tmp_path):
    waveform = speak("CAB A", rng)
    soundfile.write(tmp_path / "tone.wav", waveform, RATE, subtype="FLOAT")
    by_path = recognizer.transcribe(tmp_path / "tone.wav")
    by_file = recognizer.transcribe(io.BytesIO((tmp_path / "tone.wav").read_bytes()))
    by_array = recognizer.transcribe((waveform.astype(np.float32), RATE))
    assert by_path.text == "CAB A"
    assert by_path.words == by_file.words == by_array.words
    assert by_path.model == "tones"


def test_samples_and_their_rate_are_two_arguments_or_one(recognizer, rng):
    waveform = speak("CAB A", rng)
    assert recognizer.transcribe(waveform, RATE) == recognizer.transcribe((waveform, RATE))
    assert [segment.text for segment in recognizer.segments(waveform, RATE)] == ["CAB A"]
    with pytest.raises(InputError, match=r"samples need their rate in Hz: transcribe\(samples, rate\)"):
        recognizer.transcribe(waveform)


def test_segments_are_those_of_the_transcript_and_come_as_the_sound_is_read(recognizer, rng, tmp_path):
    waveform = np.concatenate([speak("CAB AC    ", rng) for _ in range(50)])
    transcript = recognizer.transcribe(waveform, RATE)
    segments = list(recognizer.segments(waveform, RATE))
    whole = find_segments(transcript.text, transcript.words)
    assert [(segment.text, segment.start, segment.end) for segment in segments] == [
        (segment.text, segment.start, segment.end) for segment in whole
    ]
    assert len(segments) > 40
    waveform[-100] = np.nan  # two minutes in
    soundfile.write(tmp_path / "nan.wav", waveform, RATE, subtype="FLOAT")
    texts = []
    with pytest.raises(DataError, match="samples must be finite"):
        for segment in recognizer.segments(tmp_path / "nan.wav"):
            texts.append(segment.text)
    assert texts and texts == [segment.text for segment in segments[: len(texts)]]


def test_progress_counts_each_second_once(recognizer, rng, tmp_path):
    waveforms = [np.concatenate([speak("CAB AC", rng)] * count) for count in (1, 40, 3)]
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"this is not sound")
    seconds: list[float] = []
    list(recognizer.results([*((waveform, RATE) for waveform in waveforms), bad], progress=seconds.append))
    assert sum(seconds) == pytest.approx(sum(map(len, waveforms)) / RATE, abs=0.1)
    assert len(seconds) >= 3
    seconds.clear()
    recognizer.long_log_probs((waveforms[1], RATE), progress=seconds.append)
    assert sum(seconds) == pytest.approx(len(waveforms[1]) / RATE, abs=0.1)


@pytest.mark.parametrize(("spoken", "text"), [("AB", "好棒"), ("ABB", "好棒棒"), ("AB ABB", "好棒 好棒棒")])
def test_a_character_said_twice_is_told_from_one_said_once(tone_run, rng, spoken, text):
    """好棒 and 好棒棒 differ by a blank between two equal labels; the model of tones, its letters renamed, hears it."""
    names = dict(zip("ABC", "好棒们", strict=True))
    tones = AcousticModel.load(tone_run[0] / "model")
    config = tones.config
    characters = tuple(names.get(character, character) for character in config.characters)
    model = AcousticModel(replace(config, characters=characters, text=replace(config.text, language="zh")))
    model.load_state_dict(tones.state_dict())
    heard = [Recognizer(model, device="cpu", precision="float32", decoding=decoding) for decoding in (None, BEAM)]
    waveform = (speak(spoken, rng), RATE)
    assert [each.transcribe(waveform).text for each in heard] == [text] * 2


def test_words_have_times_where_they_were_spoken_and_confidence(recognizer, rng):
    first, second = speak("AB", rng), speak("CA", rng)
    transcript = recognizer.transcribe((np.concatenate([first, second]), RATE))
    assert [word.text for word in transcript.words] == ["AB", "CA"]
    boundary = len(first) / RATE
    assert 0 <= transcript.words[0].start < transcript.words[0].end <= boundary <= transcript.words[1].start
    assert all(0.5 < word.confidence <= 1 for word in transcript.words)
    assert transcript.duration_seconds == pytest.approx(len(first) / RATE + len(second) / RATE)


@pytest.mark.parametrize("num_samples", [1, 40, 79, 80, 400])
def test_silence_and_five_milliseconds_give_an_empty_transcript(recognizer, num_samples):
    transcript = recognizer.transcribe((np.zeros(num_samples, dtype=np.float32), RATE))
    assert (transcript.text, transcript.words) == ("", ())
    assert transcript.duration_seconds == num_samples / RATE


def test_a_minute_of_silence_gives_no_words(recognizer):
    assert recognizer.transcribe((np.zeros(60 * RATE, dtype=np.float32), RATE)).text == ""


def test_long_sound_loses_and_doubles_nothing_at_its_seams(recognizer, rng):
    """Four minutes that are cut a dozen times give the words of the same sound in its sentences, in their places."""
    texts = [sentence(rng, 4) for _ in range(80)]
    waveforms = [speak(text, rng) for text in texts]
    whole = recognizer.transcribe((np.concatenate(waveforms), RATE))
    parts = [recognizer.transcribe((waveform, RATE)) for waveform in waveforms]
    assert whole.duration_seconds > 8 * LONGEST_PIECE
    reference = " ".join(texts)
    errors_of_parts = word_errors(reference, " ".join(part.text for part in parts)).rate
    assert word_errors(reference, whole.text).rate <= errors_of_parts + 0.01
    assert all(before.end <= after.start for before, after in pairwise(whole.words))
    # The first word of each sentence that both heard alike begins where the sentence begins, however far in.
    begins = np.cumsum([0, *map(len, waveforms)]) / RATE
    starts = np.array([word.start for word in whole.words])
    for begin, part in zip(begins, parts, strict=False):
        if part.words:
            assert np.abs(starts - (begin + part.words[0].start)).min() <= 2 * recognizer.model.frame_seconds


def test_sound_without_a_pause_is_cut_without_harm(recognizer, rng):
    """A minute and a half of tones without quiet between them: a cut costs a few letters at most."""
    letters = [str(letter) for letter in rng.choice(list(tones.PITCH), 500)]
    frequencies = np.repeat([tones.PITCH[letter] for letter in letters], round(0.18 * RATE))
    sound = (0.3 * np.sin(2 * np.pi * np.cumsum(frequencies) / RATE)).astype(np.float32)
    text = recognizer.transcribe((sound, RATE)).text
    emission = recognizer.log_probs((sound, RATE))
    whole = recognizer.model.alphabet.decode(collapse(emission.argmax(axis=1), blank=0)).strip()
    num_cuts = len(list(read_pieces([(sound, RATE)], recognizer.model))) - 1
    assert num_cuts > 0
    assert len(whole.replace(" ", "")) > 250  # most of the letters, one for a run of equal ones
    assert character_errors(whole, text).errors <= 4 * num_cuts  # a piece has 60


def test_pieces_cover_every_frame_once(recognizer, rng):
    waveform = np.concatenate([speak(sentence(rng, 3), rng) for _ in range(40)])
    step = recognizer.model.samples_per_frame
    pieces = list(read_pieces([(waveform, RATE)], recognizer.model))
    assert len(pieces) > 3
    assert pieces[0].start == 0
    assert pieces[-1].end == recognizer.model.output_length(len(waveform))
    for before, after in pairwise(pieces):
        assert before.end == after.start
    for piece in pieces:
        first = piece.first_frame * step
        np.testing.assert_array_equal(piece.waveform, waveform[first : first + len(piece.waveform)].astype(np.float32))
        assert piece.first_frame <= piece.start < piece.end
        assert len(piece.waveform) / RATE <= LONGEST_PIECE + 2.1


def test_many_recordings_come_back_in_their_order(recognizer, rng):
    """Three batches and one more, of lengths that sorting shuffles: each result is its own recording's."""
    texts = [sentence(rng, 1 + number % 5) for number in range(3 * recognizer.batch_size + 1)]
    sources = [(speak(text, rng), RATE) for text in texts]
    alone = [recognizer.transcribe(source).text for source in sources]
    together = list(recognizer.transcribe_many(sources))
    assert [transcript.text for transcript in together] == alone
    assert [transcript.words[-1].end for transcript in together] == [
        recognizer.transcribe(source).words[-1].end for source in sources
    ]


def test_a_batch_is_bounded_by_its_count_and_by_its_seconds_with_padding(rng, monkeypatch):
    model = AcousticModel(ModelConfig(characters=("A",), encoder=EncoderOptions(num_layers=1, hidden_size=4)))
    batches, log_probs = [], model.log_probs
    rate = model.sample_rate

    def counted(waveforms):
        batches.append([round(len(waveform) / rate) for waveform in waveforms])
        return log_probs(waveforms)

    monkeypatch.setattr(recognizers, "BATCH_SECONDS", 40.0)
    monkeypatch.setattr(recognizers, "SHORTEST_PIECE", 600.0)  # all sources in the first window
    monkeypatch.setattr(model, "log_probs", counted)
    lengths = [3, 20, 5, 1, 20, 9, 2, 20, 1, 1]
    sources = [(rng.uniform(-0.1, 0.1, length * rate).astype(np.float32), rate) for length in lengths]
    recognizer = Recognizer(model, device="cpu", precision="float32", batch_size=4)
    assert len(list(recognizer.transcribe_many(sources))) == len(lengths)
    assert batches == [[20, 20], [20, 9], [5, 3, 2, 1], [1, 1]]


def test_results_stream_out_before_the_last_source_is_read(recognizer, rng):
    """Bounded memory: with more than a window of sound, the first results come before the last sources are touched."""
    read = 0

    def sources():
        nonlocal read
        waveform = speak(sentence(rng, 20), rng)
        for _ in range(200):
            read += 1
            yield waveform, RATE

    results = recognizer.results(sources())
    next(results)
    assert read < 120
    results.close()


def test_a_bad_file_among_many_is_its_error_and_the_rest_go_on(recognizer, rng, tmp_path):
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    soundfile.write(good, speak("AB", rng), RATE)
    bad.write_bytes(b"this is not sound")
    results = list(recognizer.results([good, bad, tmp_path / "none.wav", good]))
    assert [type(result).__name__ for result in results] == ["Transcript", "NotSound", "DataError", "Transcript"]
    assert str(bad) in str(results[1])
    assert results[0].text == results[3].text == "AB"
    with pytest.raises(DataError, match=r"bad\.wav"):
        list(recognizer.transcribe_many([good, bad]))


def test_a_file_that_ends_in_nonsense_midway_is_its_error(recognizer, rng, tmp_path):
    waveform = np.concatenate([speak("AB", rng)] * 60)
    waveform[-100] = np.nan
    soundfile.write(tmp_path / "nan.wav", waveform, RATE, subtype="FLOAT")
    good = (speak("CA", rng), RATE)
    results = list(recognizer.results([tmp_path / "nan.wav", good]))
    assert isinstance(results[0], DataError)
    assert results[1].text == "CA"


def test_quietest_frame_is_the_middle_of_the_longest_silence():
    emission = np.full((10, 2), np.log(0.5), dtype=np.float32)
    emission[[1, 4, 5, 6, 9], 0] = 0.0
    left = emission + np.array([-0.1, 0.1])
    assert quietest_frame(left, left[:9]) == (5, 3)
    right = left.copy()
    right[5] = np.log([0.1, 0.9])  # the other side hears a letter there
    assert quietest_frame(left, right) == (1, 1)
    talk = np.log(np.array([[0.1, 0.9], [0.4, 0.6], [0.2, 0.8]]))
    assert quietest_frame(talk, talk) == (1, 0)


def test_unknown_models_and_devices_are_named(tmp_path):
    with pytest.raises(InputError, match="no model 'nothing-here': give a model folder, or one of the embedded models"):
        asr.load("nothing-here")
    with pytest.raises(DataError, match=r"a model must be a folder of asr .*; this folder is none of them"):
        asr.load(tmp_path)
    model = AcousticModel(ModelConfig(characters=("A",), encoder=EncoderOptions(num_layers=1, hidden_size=4)))
    with pytest.raises(InputError, match="device must be auto, cpu or a CUDA device of this machine, not 'abacus'"):
        Recognizer(model, device="abacus")
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        Recognizer(model, batch_size=0)


def test_embedded_models_are_found_by_name():
    for name, folder in embedded_models().items():
        assert find_model(name) == folder

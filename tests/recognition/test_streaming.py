"""Live recognition against the recording as a whole: the same text and times, whatever the blocks."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asr
from asr.audio.waveform import read_audio
from asr.errors import ConfigError, InputError
from asr.recognition import streaming
from asr.recognition.recognizer import Recognizer
from asr.recognition.streaming import accept_together, stream_blocks
from asr.text.metrics import word_errors
from tests.tones import speak

RATE = 8000
PAUSE = 1.2  # seconds, longer than `endpoint_silence` and all that follows it
SENTENCES = ["CAB AC", "AA BC CA", "B", "ABC CB A", "BA CAB"]


@pytest.fixture(scope="module", params=["greedy", "beam"])
def recognizer(request, tone_run) -> Recognizer:
    recognizer = asr.load(tone_run[0] / "model", device="cpu", precision="float32")
    if request.param == "beam":
        recognizer = recognizer.with_decoding({"beam_width": 16})
        # The small model is less sure than one with a language model: its words would become stable at their end only.
        decoder = recognizer.decoder
        decoder.live_search = decoder.live_search.pruned(score_threshold=2.0)
    return recognizer


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    return talk(SENTENCES, np.random.default_rng(5))


def talk(sentences: list[str], rng: np.random.Generator) -> np.ndarray:
    """Sentences with pauses after them."""
    pause = 0.003 * rng.standard_normal(int(PAUSE * RATE))
    return np.concatenate([part for text in sentences for part in (speak(text, rng), pause)]).astype(np.float32)


def hear(stream: asr.Stream, blocks: list[np.ndarray], rate: int = RATE) -> list[asr.StreamUpdate]:
    """The updates, once they are checked: stable words stay, until final segments begin with them."""
    updates = list(stream_blocks(stream, blocks, rate))
    stable: list[str] = []
    for update in updates:
        final = [word.text for segment in update.segments for word in segment.words]
        now = update.stable.split()
        if final:
            assert final[: len(stable)] == stable[: len(final)], (stable, final)
            stable = []
        assert now[: len(stable)] == stable
        stable = now
    assert not updates[-1].text
    return updates


def cut(waveform: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(waveform, np.cumsum(sizes)[np.cumsum(sizes) < len(waveform)])


def segments_of(updates: list[asr.StreamUpdate]) -> list[asr.TextSegment]:
    return [segment for update in updates for segment in update.segments]


def text_of(updates: list[asr.StreamUpdate]) -> str:
    return " ".join(segment.text for segment in segments_of(updates))


def test_the_final_text_and_times_are_those_of_the_recording(recognizer, waveform):
    updates = hear(recognizer.stream(), cut(waveform, [800] * (len(waveform) // 800)))
    whole = recognizer.transcribe(waveform, RATE)
    assert text_of(updates) == whole.text == " ".join(SENTENCES)
    words = [word for segment in segments_of(updates) for word in segment.words]
    differences = [abs(one.start_frame - other.start_frame) for one, other in zip(words, whole.words, strict=True)]
    assert max(differences) <= 1
    assert np.mean(differences) < 0.2
    assert all(0.3 < word.confidence <= 1 for word in words)


def test_a_segment_is_final_soon_after_its_pause_and_shown_before(recognizer, waveform):
    stream, shown = recognizer.stream(), []
    for number, block in enumerate(cut(waveform, [800] * (len(waveform) // 800))):
        update = stream.accept(block, RATE)
        now = 0.1 * (number + 1)
        if update.text and (not shown or shown[-1][1]):
            shown.append((now, ""))
        for segment in update.segments:
            assert segment.end + 0.5 <= now <= segment.end + 0.5 + 0.4 + 0.5
            shown[-1] = (shown[-1][0], segment.text)
            assert shown[-1][0] < segment.words[0].end + 0.8
    assert [text for _, text in shown] == SENTENCES
    assert stream.finish() == asr.StreamUpdate()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=60))
def test_blocks_of_any_size_give_the_same_and_stable_words_stay(recognizer, waveform, sizes):
    expected = recognizer.stream()
    whole = [expected.accept(waveform, RATE), expected.finish()]
    updates = hear(recognizer.stream(), cut(waveform, sizes))
    assert segments_of(updates) == segments_of(whole)


def test_utterances_end_in_pauses_and_begin_after_them(recognizer, waveform):
    stream = recognizer.stream()
    parts: list[list[str]] = []
    for block in np.array_split(waveform, 60):
        open_before = stream.open_since
        update = stream.accept(block, RATE)
        first = 0
        for end in update.utterance_ends:
            parts.append([word.text for segment in update.segments[first:end] for word in segment.words])
            assert open_before <= update.segments[first].start
            first = end
        assert first == len(update.segments)
        if update.segments:
            assert stream.open_since >= update.segments[-1].end
    last = stream.finish()
    assert last.utterance_ends == ((len(last.segments),) if last.segments else ())
    parts += [[word.text for segment in last.segments for word in segment.words]] if last.segments else []
    assert [" ".join(words) for words in parts] == SENTENCES
    assert not stream.is_readable


def test_words_become_stable_before_they_are_final(recognizer, waveform):
    updates = hear(recognizer.stream(), cut(waveform, [800] * (len(waveform) // 800)))
    assert {"AA", "ABC"} <= {update.stable.split()[0] for update in updates if update.stable}


@pytest.mark.parametrize("rate", [16_000, 44_100, 11_025])
def test_other_rates_are_resampled_across_blocks(recognizer, waveform, rate, rng):
    import soxr

    other = soxr.resample(waveform, RATE, rate, quality="HQ").astype(np.float32)
    updates = hear(recognizer.stream(), cut(other, rng.integers(0, 3000, 500).tolist()), rate)
    assert text_of(updates) == " ".join(SENTENCES)
    at_once = recognizer.stream()
    assert segments_of([at_once.accept(other, rate), at_once.finish()]) == segments_of(updates)
    whole = recognizer.transcribe(waveform, RATE)
    assert segments_of(updates)[-1].end == pytest.approx(whole.words[-1].end, abs=0.05)


def test_int16_is_scaled(recognizer, waveform):
    stream = recognizer.stream()
    updates = [stream.accept((waveform * 2**15).round().astype(np.int16), RATE), stream.finish()]
    assert text_of(updates) == " ".join(SENTENCES)


def test_no_samples_change_nothing(recognizer, waveform):
    stream = recognizer.stream()
    assert stream.accept(np.zeros(0, np.float32)) == asr.StreamUpdate()
    assert stream.accept([], RATE) == asr.StreamUpdate()
    before = replace(stream.accept(waveform[: RATE * 3], RATE), segments=(), utterance_ends=())
    assert stream.accept(waveform[:0]) == before == stream.accept(waveform[:0].astype(np.int16), RATE)
    assert before.text


def test_the_rate_of_the_first_block_holds_for_all(recognizer, waveform):
    stream = recognizer.stream()
    stream.accept(waveform[:100])
    with pytest.raises(InputError, match=r"sample_rate must be 8000 Hz for all blocks of this stream; got 16000: open"):
        stream.accept(waveform, 16_000)
    with pytest.raises(InputError, match=r"sample_rate must be an integer, 1000 to 1000000 Hz; got 8000.5"):
        recognizer.stream().accept(waveform, 8000.5)


def test_a_refused_block_leaves_the_stream_as_it_was(recognizer, waveform):
    stream, other = recognizer.stream(), recognizer.stream()
    first = stream.accept(waveform[:12_000], RATE)
    broken = waveform[12_000:30_000].copy()
    broken[7] = np.nan
    with pytest.raises(InputError, match=r"samples must be finite, full scale 1; samples\[7\] is nan"):
        stream.accept(broken, RATE)
    broken[7] = 1e12
    with pytest.raises(InputError, match=r"samples\[7\] is 9.99"):
        stream.accept(broken, RATE)
    with pytest.raises(InputError, match=r"samples must be \(N,\), one channel; got shape \(10, 2\)"):
        stream.accept(np.zeros((10, 2)), RATE)
    with pytest.raises(InputError, match=r"samples must be floating with full scale 1, or int16; got int64"):
        stream.accept(np.arange(4), RATE)
    with pytest.raises(InputError, match=r"samples\[7\]"):
        accept_together([other, stream], [waveform, broken], RATE)
    updates = [first, stream.accept(waveform[12_000:], RATE), stream.finish()]
    assert text_of(updates) == " ".join(SENTENCES)
    assert text_of(hear(other, [waveform])) == " ".join(SENTENCES)


def test_a_finished_stream_is_closed(recognizer, waveform):
    stream = recognizer.stream()
    stream.finish()
    for call in (stream.finish, lambda: stream.accept(waveform, RATE)):
        with pytest.raises(InputError, match="the stream must be open, but it is finished: open another one"):
            call()


def hear_energy(waveforms: list[np.ndarray]) -> list[np.ndarray]:
    """As a model that knows noise, which that of tones does not: an A where a loud frame follows a quiet one."""
    emissions = []
    for waveform in waveforms:
        frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
        loud = np.abs(frames).max(axis=1, initial=0.0) > 0.1
        emission = np.full((len(frames), 5), 0.01, np.float32)
        starts = np.flatnonzero(loud & ~np.roll(loud, 1))
        emission[:, 0], emission[starts] = 0.96, [0.01, 0.01, 0.96, 0.01, 0.01]
        emissions.append(np.log(emission))
    return emissions


@pytest.mark.parametrize("loudness", [0.0, 1e-6, 0.003])
def test_silence_gives_nothing_and_costs_little(recognizer, rng, loudness, monkeypatch):
    seconds = []

    def listen(self: Recognizer, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        seconds.extend(len(waveform) / RATE for waveform in waveforms)
        return hear_energy(waveforms)

    monkeypatch.setattr(Recognizer, "batch_log_probs", listen)
    silence = (loudness * rng.standard_normal(60 * RATE)).astype(np.float32)
    stream = recognizer.stream()
    updates = hear(stream, cut(silence, [800] * 600))
    assert all(update == asr.StreamUpdate() for update in updates)
    assert sum(seconds) < 150  # at every step it would be 600
    assert len(stream._samples) < 20 * RATE


@pytest.mark.parametrize("loudness", [0.0, 0.003])
def test_speech_after_silence_is_heard_at_once(recognizer, rng, loudness, monkeypatch):
    monkeypatch.setattr(Recognizer, "batch_log_probs", lambda self, waveforms: hear_energy(waveforms))
    sound = (loudness * rng.standard_normal(23 * RATE)).astype(np.float32)
    sound[20 * RATE : 20 * RATE + 960] += 0.3
    stream = recognizer.stream()
    updates = [stream.accept(block, RATE) for block in cut(sound, [800] * 230)]
    first = next(number for number, update in enumerate(updates) if update.text)
    assert 200 <= first <= 205
    (segment,) = segments_of([*updates, stream.finish()])
    assert (segment.text, segment.start) == (recognizer.model.alphabet.characters[1], 20.0)


def test_the_end_of_the_sound_ends_a_word(recognizer, rng):
    waveform = speak("CAB AC", rng)[:-1000]
    assert text_of(hear(recognizer.stream(), [waveform])) == recognizer.transcribe(waveform, RATE).text == "CAB AC"
    for length in (1, 50, 400):
        assert not segments_of(hear(recognizer.stream(), [waveform[:length]]))


def test_long_speech_without_a_pause_is_cut_after_half_a_minute(recognizer, rng, monkeypatch):
    sentence = " ".join("".join(rng.choice(list("ABC"), rng.integers(1, 4))) for _ in range(150))
    waveform = speak(sentence, rng)
    stream = recognizer.stream(asr.StreamOptions(endpoint_silence=2.0))
    sizes, longest = [], 0.0
    monkeypatch.setattr(streaming, "SHORT_PAUSE", 1.0)
    for block in cut(waveform, [800] * (len(waveform) // 800)):
        update = stream.accept(block, RATE)
        if update.segments:
            longest = max(longest, update.segments[-1].end - update.segments[0].start)
        sizes.append(len(stream._samples))
    updates = [stream.finish()]
    assert len(waveform) > 80 * RATE
    assert 20 < longest < 32
    assert max(sizes) < 33 * RATE
    monkeypatch.undo()
    updates = hear(recognizer.stream(), cut(waveform, [800] * (len(waveform) // 800)))
    counts = word_errors(sentence, text_of(updates))
    assert (counts.substitutions + counts.insertions + counts.deletions) / 150 < 0.05


def test_streams_of_one_recognizer_run_in_threads(recognizer, rng):
    waveforms = [talk(list(rng.permutation(SENTENCES)), rng) for _ in range(4)]
    expected = [text_of(hear(recognizer.stream(), [waveform])) for waveform in waveforms]
    results: dict[int, str] = {}

    def work(number: int) -> None:
        blocks = cut(waveforms[number], [700] * (len(waveforms[number]) // 700))
        results[number] = text_of(hear(recognizer.stream(), blocks))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[number] for number in range(4)] == expected


def test_streams_together_are_those_one_by_one_and_share_batches(recognizer, rng, monkeypatch):
    waveforms = [talk(list(rng.permutation(SENTENCES)), rng) for _ in range(3)]
    expected = [segments_of(hear(recognizer.stream(), [waveform])) for waveform in waveforms]
    batches = []
    compute = Recognizer.batch_log_probs
    monkeypatch.setattr(
        Recognizer, "batch_log_probs", lambda self, waves: batches.append(len(waves)) or compute(self, waves)
    )
    streams, updates = [recognizer.stream() for _ in waveforms], [[] for _ in waveforms]
    for start in range(0, max(map(len, waveforms)), 1000):
        blocks = [waveform[start : start + 1000] for waveform in waveforms]
        for kept, update in zip(updates, accept_together(streams, blocks, RATE), strict=True):
            kept.append(update)
    for kept, stream in zip(updates, streams, strict=True):
        kept.append(stream.finish())
    for kept, segments in zip(updates, expected, strict=True):
        assert [segment.text for segment in segments_of(kept)] == [segment.text for segment in segments]
    assert np.mean(batches) > 1.5
    assert accept_together([], []) == []


def test_only_open_streams_of_one_recognizer_go_together(recognizer, waveform):
    stream = recognizer.stream()
    with pytest.raises(InputError, match="each stream must be there once, with its block; got 2 and 2 blocks"):
        accept_together([stream, stream], [waveform, waveform], RATE)
    with pytest.raises(InputError, match="each stream must be there once, with its block; got 1 and 0 blocks"):
        accept_together([stream], [], RATE)
    other = recognizer.with_decoding({"beam_width": 4}).stream()
    with pytest.raises(InputError, match="the streams must be of one recogniser; got streams of several"):
        accept_together([stream, other], [waveform, waveform], RATE)


def test_less_look_ahead_makes_words_stable_earlier(recognizer, waveform):
    recognizer, firsts = recognizer.with_decoding({"beam_width": 1}), []
    for look_ahead in (0.2, 2.0):
        stream = recognizer.stream(asr.StreamOptions(look_ahead=look_ahead, endpoint_silence=5.0))
        updates = [stream.accept(block, RATE) for block in cut(waveform, [800] * (len(waveform) // 800))]
        firsts.append(next(number for number, update in enumerate(updates) if update.stable))
    assert 15 <= firsts[1] - firsts[0] <= 24


@pytest.fixture(scope="module")
def english() -> Recognizer:
    return asr.load("english", device="cpu")


@pytest.fixture(scope="module")
def merchant() -> np.ndarray:
    return read_audio(Path(__file__).parent.parent / "audio" / "merchant.flac", sample_rate=16_000)


@pytest.mark.parametrize("pause", [0.0, 1.5])
def test_readable_text_ends_as_in_a_recording(english, merchant, pause):
    sound = np.concatenate([merchant, np.zeros(int(16_000 * pause), np.float32)])
    updates = hear_readable(english, sound)
    assert (
        text_of(updates)
        == "But the merchant understood what the boy had said."
        == english.transcribe(sound, 16_000).text
    )
    assert bool(updates[-1].segments) == (pause == 0)  # a pause ends the utterance before the end of the sound does


def test_a_sentence_goes_on_after_a_cut_without_a_pause(english, merchant, monkeypatch):
    monkeypatch.setattr(streaming, "LONG_SEGMENT", 0.5)
    monkeypatch.setattr(streaming, "SHORT_PAUSE", 5.0)
    monkeypatch.setattr(streaming, "LONGEST_SEGMENT", 1.0)
    texts = [segment.text for segment in segments_of(hear_readable(english, merchant))]
    assert len(texts) > 1
    assert texts[-1].endswith(".") and not any(text.endswith((".", "?", "!")) for text in texts[:-1])


def hear_readable(recognizer: Recognizer, sound: np.ndarray) -> list[asr.StreamUpdate]:
    return list(stream_blocks(recognizer.stream(), np.array_split(sound, 20), 16_000))


def test_options_have_limits():
    with pytest.raises(ConfigError, match="look_ahead must be between 0 and 10, not 11"):
        asr.StreamOptions(look_ahead=11)
    with pytest.raises(ConfigError, match=r"step must be between 0\.04 and 10, not 0"):
        asr.StreamOptions(step=0)

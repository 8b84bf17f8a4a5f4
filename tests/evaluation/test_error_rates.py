from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import asr
from asr.data.manifest import Utterance, read_manifest
from asr.errors import AsrError, DataError, InputError
from asr.evaluation.error_rates import compare, evaluate
from asr.text.metrics import ErrorCounts, bootstrap_interval, paired_test, wer, word_errors
from asr.text.normalization import TextOptions
from asr.text.transcript import Hypothesis, Timeline, Transcript, find_words
from tests.oracles import load_or_skip

RATE = 8000


class Parrot:
    """In place of a recogniser: says the texts it was given, one after the other; an error stands for itself."""

    def __init__(self, texts: list[str | AsrError], *, text: TextOptions | None = None):
        self.model = SimpleNamespace(sample_rate=RATE, text=text or TextOptions(), name="parrot")
        self.texts = texts
        self.heard: list[np.ndarray] = []

    def results(self, sources, *, style):
        assert style == "raw"  # what the model emits is scored
        for text, (waveform, rate) in zip(self.texts, sources, strict=True):
            assert rate == RATE
            self.heard.append(waveform)
            yield text if isinstance(text, AsrError) else self.transcript(text)

    def transcript(self, text: str) -> Transcript:
        timeline = Timeline(frame_seconds=0.01, duration_seconds=10.0)
        words = tuple(
            asr.Word(text=text[a:b], start_frame=a, end_frame=b, confidence=1.0, timeline=timeline)
            for a, b in find_words(text)
        )
        best = Hypothesis(text=text, score=0.0, tokens=(), spans=())
        return Transcript(text=text, words=words, hypotheses=(best,), timeline=timeline)


@pytest.fixture
def make_utterances(tmp_path):
    """Utterances of these texts and speakers, each a second of a recording of its own."""

    def make(texts: list[str], speakers: list[str | None] | None = None) -> list[Utterance]:
        utterances = []
        for number, text in enumerate(texts):
            path = tmp_path / f"{number}.wav"
            soundfile.write(path, np.full(RATE, number / 100), RATE, subtype="FLOAT")
            speaker = speakers[number] if speakers else None
            utterances.append(Utterance(id=f"u{number}", audio=path, duration_seconds=1.0, text=text, speaker=speaker))
        return utterances

    return make


REFERENCES = ["one two three", "four, five", "Six seven eight nine", "ten", "no no no"]
HYPOTHESES = ["ONE TWO THREE", "FOR FIVE", "SEVEN EIGHT NINE NINE", "", "NO YES NO NO"]
NORMALIZED = ["ONE TWO THREE", "FOUR FIVE", "SIX SEVEN EIGHT NINE", "TEN", "NO NO NO"]
SPEAKERS = ["x", "y", "x", "y", "z"]


def test_counts_are_those_of_jiwer(make_utterances):
    jiwer = load_or_skip("jiwer")
    evaluation = evaluate(Parrot(HYPOTHESES), make_utterances(REFERENCES))
    words = jiwer.process_words(NORMALIZED, HYPOTHESES)
    expected = (words.substitutions, words.insertions, words.deletions)
    counts = evaluation.wer.counts
    assert (counts.substitutions, counts.insertions, counts.deletions) == expected
    assert counts.rate == pytest.approx(words.wer)
    assert evaluation.cer.counts.rate == pytest.approx(jiwer.cer(NORMALIZED, HYPOTHESES))
    assert [utterance.reference for utterance in evaluation.utterances] == NORMALIZED
    assert [utterance.id for utterance in evaluation.utterances] == ["u0", "u1", "u2", "u3", "u4"]
    assert (evaluation.headline, evaluation.model, evaluation.audio_seconds) == ("wer", "parrot", 5.0)
    assert evaluation.real_time_factor == evaluation.seconds / 5.0


def test_intervals_draw_speakers_only_where_all_are_known_and_differ(make_utterances):
    counts = [word_errors(*pair) for pair in zip(NORMALIZED, HYPOTHESES, strict=True)]
    by_speaker = bootstrap_interval(counts, groups=SPEAKERS)
    by_utterance = bootstrap_interval(counts)
    assert by_speaker != by_utterance

    def interval(speakers):
        return evaluate(Parrot(HYPOTHESES), make_utterances(REFERENCES, speakers)).wer.interval

    assert interval(SPEAKERS) == by_speaker
    assert interval(None) == by_utterance
    assert interval(["x", "y", "x", "y", None]) == by_utterance
    assert interval(["x"] * 5) == by_utterance


def test_no_interval_of_one_utterance_or_without_references(make_utterances):
    single = evaluate(Parrot(["ONE"]), make_utterances(["two"]))
    assert single.wer.interval is None and single.wer.counts.rate == 1.0
    empty = evaluate(Parrot(["A", ""]), make_utterances(["", "..."]))
    assert empty.wer.interval is None and empty.wer.counts == ErrorCounts(insertions=1)


def test_chinese_counts_characters_without_spaces(make_utterances):
    text = TextOptions(language="zh")
    evaluation = evaluate(Parrot(["好棒好", "我OK OK"], text=text), make_utterances(["好 棒棒！", "我 ok ok"]))
    assert evaluation.headline == "cer"
    assert evaluation.cer.counts == ErrorCounts(substitutions=1, reference_length=3 + 5)
    (worst,) = evaluation.worst(5)
    assert [step.reference for step in evaluation.aligned(worst)] == ["好", "棒", "棒"]
    assert evaluation.confusions() == {("棒", "好"): 1}


def test_marks_are_in_no_figure_or_refused_by_name(make_utterances):
    utterances = make_utterances(["one [noise] two", "NARRATOR: three"])
    assert evaluate(Parrot(["ONE TWO <unk>", "THREE"]), utterances).wer.counts.rate == 0.0
    with pytest.raises(DataError, match=r"the text of 'u0' cannot be used: a text must have no marks.*'\[noise\]'"):
        evaluate(Parrot(["ONE TWO", "THREE"]), utterances, text=TextOptions(marks="refuse"))
    heard = evaluate(Parrot(["ONE <unk>"]), make_utterances(["one"]), text=TextOptions(marks="refuse"))
    assert heard.utterances[0].hypothesis == "ONE"


def test_worst_and_confusions(make_utterances):
    evaluation = evaluate(Parrot(HYPOTHESES), make_utterances(REFERENCES))
    assert [utterance.id for utterance in evaluation.worst(2)] == ["u2", "u1"]
    assert [utterance.id for utterance in evaluation.worst(9)] == ["u2", "u1", "u3", "u4"]  # u0 is right
    assert evaluation.confusions() == {
        ("FOUR", "FOR"): 1,
        ("SIX", None): 1,
        (None, "NINE"): 1,
        ("TEN", None): 1,
        (None, "YES"): 1,
    }


def test_what_cannot_be_read_is_told_and_in_no_figure(make_utterances):
    utterances = make_utterances(REFERENCES)
    utterances[1].audio.unlink()
    texts = [HYPOTHESES[0], HYPOTHESES[2], InputError("too odd"), HYPOTHESES[4]]
    calls = []
    evaluation = evaluate(Parrot(texts), utterances, progress=lambda: calls.append(1))
    assert [utterance.id for utterance in evaluation.utterances] == ["u0", "u2", "u4"]
    assert evaluation.wer.counts.reference_length == 10
    reasons = dict(evaluation.unreadable)
    assert reasons.keys() == {"u1", "u3"}
    assert reasons["u1"] == f"{utterances[1].audio}: cannot be opened: No such file or directory"
    assert reasons["u3"] == "too odd"
    assert len(calls) == 5


def test_nothing_readable_is_an_error(make_utterances):
    utterances = make_utterances(["one"])
    utterances[0].audio.unlink()
    with pytest.raises(DataError, match=r"at least one utterance must be readable.*; the first: .*cannot be opened"):
        evaluate(Parrot([]), utterances)
    with pytest.raises(DataError, match=r"at least one utterance must be readable to evaluate a model; none is$"):
        evaluate(Parrot([]), [])


def test_json_has_all_of_it(make_utterances):
    evaluation = evaluate(Parrot(HYPOTHESES), make_utterances(REFERENCES, SPEAKERS))
    document = json.loads(json.dumps(evaluation.to_json()))
    assert document["headline"] == "wer"
    assert document["wer"]["rate"] == evaluation.wer.counts.rate
    assert [document["wer"]["low"], document["wer"]["high"]] == list(evaluation.wer.interval)
    assert document["wer"]["errors"] == 5 and document["wer"]["reference_length"] == 13
    assert document["calibration_error"] == evaluation.calibration_error
    assert (document["intervals"], document["num_utterances"], document["num_speakers"]) == ("speakers", 5, 3)
    assert document["utterances"][1] == {
        "id": "u1",
        "speaker": "y",
        "duration": 1.0,
        "reference": "FOUR FIVE",
        "hypothesis": "FOR FIVE",
        "words": {"errors": 1, "substitutions": 1, "insertions": 0, "deletions": 0, "reference_length": 2},
        "characters": {"errors": 1, "substitutions": 0, "insertions": 0, "deletions": 1, "reference_length": 9},
    }
    single = evaluate(Parrot(["ONE"]), make_utterances(["two"])).to_json()
    assert (single["wer"]["low"], single["wer"]["high"], single["num_speakers"]) == (None, None, None)
    assert single["intervals"] is None


def test_confidences_are_judged_word_by_word(make_utterances):
    """The parrot is always sure; of its 13 words FOR, one NINE and YES are wrong."""
    evaluation = evaluate(Parrot(HYPOTHESES), make_utterances(REFERENCES, SPEAKERS))
    assert evaluation.utterances[1].judged == ((1.0, False), (1.0, True))
    assert evaluation.calibration_error == pytest.approx(3 / 13)
    chinese = evaluate(Parrot(["好棒们"]), make_utterances(["好棒棒"]), text=TextOptions(language="zh"))
    assert [right for _, right in chinese.utterances[0].judged] == [True, True, False]
    assert evaluate(Parrot([""]), make_utterances(["one"])).calibration_error is None


def test_compare_is_the_paired_test_on_what_both_could_read(make_utterances):
    utterances = make_utterances(REFERENCES, SPEAKERS)
    a = evaluate(Parrot(HYPOTHESES), utterances)
    others = ["ONE TWO", "FOUR FIVE", InputError("odd"), "TEN", "NO NO NO"]
    b = evaluate(Parrot(others), utterances)
    kept = [0, 1, 3, 4]
    expected = paired_test(
        [word_errors(NORMALIZED[i], HYPOTHESES[i]) for i in kept],
        [word_errors(NORMALIZED[i], str(others[i])) for i in kept],
        groups=[SPEAKERS[i] for i in kept],
    )
    assert compare(a, b) == expected
    assert compare(b, a).difference == -expected.difference


def test_compare_refuses_what_cannot_be_compared(make_utterances):
    utterances = make_utterances(REFERENCES)
    a = evaluate(Parrot(HYPOTHESES), utterances)
    lower = evaluate(Parrot(HYPOTHESES), utterances, text=TextOptions(case="lower"))
    with pytest.raises(InputError, match="both evaluations must normalise text in the same way"):
        compare(a, lower)
    with pytest.raises(InputError, match="both evaluations must have the same reference for 'u0'"):
        compare(a, evaluate(Parrot(HYPOTHESES), make_utterances([*reversed(REFERENCES)])))


def test_text_options_given_count_instead_of_the_models(make_utterances):
    lower = evaluate(Parrot(HYPOTHESES), make_utterances(REFERENCES), text=TextOptions(case="lower"))
    assert lower.utterances[0].hypothesis == lower.utterances[0].reference == "one two three"


def test_a_real_model_says_in_an_evaluation_what_it_says_alone(tone_run, tone_corpus):
    recognizer = asr.load(tone_run[0] / "model", device="cpu", precision="float32")
    utterances = read_manifest(tone_corpus / "dev.jsonl.gz")
    evaluation = evaluate(recognizer, utterances)
    assert [each.hypothesis for each in evaluation.utterances] == [
        recognizer.transcribe(utterance.audio).text for utterance in utterances
    ]
    references = [utterance.text for utterance in utterances]
    hypotheses = [each.hypothesis for each in evaluation.utterances]
    assert evaluation.wer.counts.rate == wer(references, hypotheses)
    assert any(hypotheses)

"""The doctor against faults planted one at a time: it finds each in its line, and nothing else anywhere."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.data.splits import find_split
from asr.doctor.checks import KINDS, DoctorOptions
from asr.doctor.examination import Examination, clean, examine
from asr.errors import ConfigError, DataError
from asr.text.normalization import TextOptions
from tests.doctor.voices import SAMPLE_RATE, Corpus, voice

LINE = 7


@pytest.fixture
def corpus(tmp_path: Path, rng: np.random.Generator) -> Corpus:
    return Corpus(tmp_path, rng)


def diagnose(corpus: Corpus, **arguments: object) -> Examination:
    return examine({str(path): split for split, path in corpus.manifests.items()}, **arguments)  # type: ignore


def found(examination: Examination) -> set[tuple[str, int, str]]:
    """Name of the manifest, line and kind of everything that is found."""
    return {(Path(finding.manifest).name, finding.line, finding.kind) for finding in examination.findings}


def test_a_clean_corpus_is_healthy(corpus: Corpus) -> None:
    examination = diagnose(corpus)
    assert found(examination) == set()
    assert examination.is_healthy and examination.num_files == 30 and len(examination.cases) == 30


def cut_off(corpus: Corpus) -> None:
    path = corpus.sound("train", LINE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bytes(corpus: Corpus) -> None:
    path = corpus.sound("train", LINE)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100] = random.Random(0).randbytes(100)
    path.write_bytes(content)


def damage_header(corpus: Corpus) -> None:
    path = corpus.sound("train", LINE)
    path.write_bytes(path.read_bytes()[:4] + random.Random(0).randbytes(60))


def state(**recording: float) -> Callable[[Corpus], None]:
    return lambda corpus: corpus.edit("train", LINE, lambda cut: cut["recording"].update(recording))


def change_sound(change: Callable[[np.ndarray], np.ndarray], **options: object) -> Callable[[Corpus], None]:
    def plant(corpus: Corpus) -> None:
        samples, _ = soundfile.read(corpus.sound("train", LINE))
        corpus.replace_sound("train", LINE, change(samples), **options)

    return plant


def with_nan(samples: np.ndarray) -> np.ndarray:
    return np.concatenate([samples[:1000], [np.nan], samples[1001:]])


def change_text(text: str) -> Callable[[Corpus], None]:
    return lambda corpus: corpus.set_text("train", LINE, text)


def one_letter(corpus: Corpus) -> None:
    change_sound(lambda samples: np.tile(samples, 5))(corpus)
    corpus.set_text("train", LINE, "a")


def copy_audio(corpus: Corpus) -> None:
    samples, _ = soundfile.read(corpus.sound("train", LINE - 3), dtype="int16")
    corpus.replace_sound("train", LINE, samples)


def leak_audio(corpus: Corpus) -> None:
    samples, _ = soundfile.read(corpus.sound("test", 3), dtype="int16")
    corpus.replace_sound("train", LINE, samples)


def second_channel(corpus: Corpus) -> None:
    def change(cut: dict) -> None:
        cut["channel"] = cut["supervisions"][0]["channel"] = 1
        cut["recording"]["sources"][0]["channels"] = cut["recording"]["channel_ids"] = [0, 1]

    corpus.edit("train", LINE, change)


PLANTED: list[tuple[str, dict[str, str], Callable[[Corpus], None]]] = [
    ("no JSON", {"manifest": "each line must be one JSON object: "}, lambda c: c.manifests["train"].write_text(
        c.manifests["train"].read_text().replace('{"id": "train-07"', '{"id": train-07"'))),
    ("an impossible time", {"manifest": "cut 'train-07' must end within its recording of "},
     lambda c: c.edit("train", LINE, lambda cut: cut.update(duration=99.0))),
    ("no file", {"missing": "there is no such file"}, lambda c: c.sound("train", LINE).unlink()),
    ("a folder", {"missing": "it is not a file"},
     lambda c: (c.sound("train", LINE).unlink(), c.sound("train", LINE).mkdir())),
    ("no bytes", {"empty": "the file has no bytes"}, lambda c: c.sound("train", LINE).write_bytes(b"")),
    ("a header alone", {"empty": "the file has a header, but no samples"},
     lambda c: soundfile.write(c.sound("train", LINE), np.zeros(0), SAMPLE_RATE)),
    ("a web page", {"not-sound": "must be sound; libsndfile cannot read it"},
     lambda c: c.sound("train", LINE).write_text("<html>404 not found</html>\n" * 9)),
    ("a damaged header", {"corrupt": "must be sound; libsndfile cannot read it"}, damage_header),
    ("the end cut off", {"truncated": r"truncated or damaged: 1\.\d+ s of 2\.\d+ s are missing; the rest is used"},
     cut_off),
    ("NaN", {"not-finite": r"1 of \d+ samples"}, change_sound(with_nan, subtype="FLOAT")),
    ("a channel too many", {"channel": r"channel 1 of 1 \(the first is 0\)"}, second_channel),
    ("another rate", {"rate": "8000 Hz stated, 16000 Hz in the file"}, state(sampling_rate=8000)),
    ("another duration", {"duration": r"1\.000 s stated, 2\.\d+ s in the file"},
     lambda c: (c.set_text("train", LINE, "quick lazy fox"), c.declare("train", LINE, num_samples=SAMPLE_RATE))),
    ("too long a duration", {"duration": r"3\.000 s stated, 2\.\d+ s in the file"},
     lambda c: c.declare("train", LINE, num_samples=3 * SAMPLE_RATE)),
    ("another count", {"duration": r"1\.000 s stated, 2\.\d+ s in the file"}, state(num_samples=SAMPLE_RATE)),
    ("digital silence", {"silent": "the loudest 25 ms have -inf dB of full scale"}, change_sound(np.zeros_like)),
    ("an offset and no more", {
        "silent": "the loudest 25 ms have -inf dB",
        "dc-offset": r"the mean sample is \+30\.0 % of full scale",
    }, change_sound(lambda x: np.full_like(x, 0.3))),
    ("a whisper of noise", {"silent": r"the loudest 25 ms have -\d\d dB of full scale"},
     change_sound(lambda x: x / 1000)),
    ("clipped at full scale", {"clipped": r"\d+\.\d % of the samples are flat at a peak"},
     change_sound(lambda x: np.clip(20 * x, -1, 1))),
    ("clipped, then turned down", {"clipped": r"\d+\.\d % of the samples are flat at a peak"},
     change_sound(lambda x: 0.4 * np.clip(10 * x, -1, 1))),
    ("an offset", {"dc-offset": r"the mean sample is \+10\.0 % of full scale"}, change_sound(lambda x: x + 0.1)),
    ("50 ms", {
        "too-short": r"0\.050 s",
        "too-few-frames": r"2 frames for \d+ characters and \d+ repeats, in 0\.05 s",
        "speaking-rate": r"\d+\.0 letters per second \(\d+ in 0\.05 s\): '",
    }, change_sound(lambda x: x[1000:1800])),
    ("40 s", {"too-long": r"4\d\.\d s; training allows 30"}, change_sound(lambda x: np.tile(x, 20))),
    ("a long sentence", {"few-frames": r"\d+ frames for 65 characters and 0 repeats, in 2\.\d+ s"},
     change_text("quick brown foxes vex " * 3)),
    ("a whole page", {
        "too-few-frames": r"\d+ frames for 539 characters and 0 repeats",
        "speaking-rate": r"2\d\d\.\d letters per second \(450 in ",
    }, change_text("quick brown foxes " * 30)),
    ("one letter for long", {"speaking-rate": r"0\.1 letters per second \(1 in 1\d\.\d+ s\): 'A'"}, one_letter),
    ("no text", {"no-text": "the text is empty$"}, change_text("")),
    ("nothing but marks", {"no-text": r"the text is empty after normalising ' \.\.\. '"}, change_text(" ... ")),
    ("an id twice", {"duplicate-id": "'train-03' is also the id of .*train.jsonl:3"},
     lambda c: c.edit("train", LINE, lambda cut: cut.update(id="train-03"))),
    ("a sound twice", {"duplicate-audio": "the sound is that of .*train.jsonl:4, whose text is '"}, copy_audio),
    ("a sound and its text twice", {"duplicate-audio": "the sound is that of .*train.jsonl:4, with the same text"},
     lambda c: (copy_audio(c), c.set_text("train", LINE, c.text("train", LINE - 3)))),
    ("a sound of test", {"leaked-audio": "the sound is that of .*test.jsonl:3, whose text is '"}, leak_audio),
    ("a sentence of test", {"leaked-text": "'[A-Z ]+' is also .*test.jsonl:3"},
     lambda c: c.set_text("train", LINE, c.text("test", 3).upper() + ".")),
    ("a speaker of test", {"leaked-speaker": r"test-1 speaks 1 times in train, and in test \(.*test.jsonl:1\)"},
     lambda c: c.edit("train", LINE, lambda cut: cut["supervisions"][0].update(speaker="test-1"))),
]  # fmt: skip


@pytest.mark.parametrize(("kinds", "plant"), [pytest.param(*row[1:], id=row[0]) for row in PLANTED])
def test_a_planted_fault_is_found_in_its_line_and_nothing_else(corpus, kinds, plant) -> None:
    plant(corpus)
    examination = diagnose(corpus)
    assert found(examination) == {("train.jsonl", LINE, kind) for kind in kinds}
    assert not examination.is_healthy
    for finding in examination.findings:
        assert re.match(kinds[finding.kind], finding.message)


@pytest.mark.parametrize(("kind", "plant"), [("corrupt", flip_bytes), ("truncated", cut_off)])
@pytest.mark.parametrize("suffix", [".flac", ".ogg"])
def test_damage_of_packed_sound(tmp_path: Path, rng, kind: str, plant, suffix: str) -> None:
    corpus = Corpus(tmp_path, rng, suffix=suffix)
    plant(corpus)
    assert found(diagnose(corpus)) == {("train.jsonl", LINE, kind)}


def test_every_kind_is_planted_somewhere() -> None:
    elsewhere = {"swapped", "mismatch", "no-match", "low-rate", "common-text"}
    elsewhere |= {"digits", "symbols", "other-script", "rare-character", "unknown-character"}
    elsewhere |= {"marks", "refused-marks"}
    assert {kind for _, kinds, _ in PLANTED for kind in kinds} | elsewhere == set(KINDS)


def test_the_same_in_several_processes(corpus: Corpus) -> None:
    for _, _, plant in PLANTED[2:9:2]:
        plant(corpus)
    steps: list[tuple[int, int]] = []
    parallel = diagnose(corpus, processes=2, progress=lambda *step: steps.append(step))
    assert parallel.findings == diagnose(corpus).findings
    assert parallel.cases == diagnose(corpus).cases
    assert steps == [(done, 30) for done in range(1, 31)]


def test_texts_that_do_not_belong_in_a_small_corpus_without_a_model(corpus: Corpus) -> None:
    for line, text in ((3, "Das Café kostet 3 €"), (5, "a Cyrillic \u0430"), (9, "fifty % & more")):
        corpus.set_text("train", line, text)
    kinds = ("digits", "symbols", "rare-character", "other-script")
    messages = {(f.line, f.kind): f.message for f in diagnose(corpus).findings if f.kind in kinds}
    assert messages.keys() == {
        (3, "digits"), (3, "symbols"), (3, "rare-character"), (5, "rare-character"), (5, "other-script"), (9, "symbols")
    }  # fmt: skip
    assert messages[3, "digits"] == "'3' in 'DAS CAFÉ KOSTET 3'"
    assert messages[3, "symbols"] == "'€' in 'DAS CAFÉ KOSTET 3 €'"
    assert messages[3, "rare-character"] == "'É' (U+00C9) in 'DAS CAFÉ KOSTET 3'"
    assert messages[5, "other-script"].startswith("Cyrillic, not Latin: 'А' (U+0410)")
    assert messages[9, "symbols"].startswith("'%', '&' in")


def test_numbers_that_training_spells_are_no_fault(corpus: Corpus) -> None:
    pytest.importorskip("num2words")
    corpus.set_text("train", 3, "it costs 3 €")
    spelled = diagnose(corpus, options=DoctorOptions(text=TextOptions(numbers="spell")))
    assert not {kind for _, _, kind in found(spelled)} & {"digits", "symbols"}


def test_characters_outside_the_alphabet(corpus: Corpus) -> None:
    corpus.set_text("test", 5, "a fox from genève")
    examination = diagnose(corpus)
    assert ("test.jsonl", 5, "unknown-character") in found(examination)  # train has no È
    corpus.set_text("test", 5, corpus.text("test", 6))
    examination = diagnose(corpus, options=DoctorOptions(characters="ABCDEFGHIJKLMNOPQRSTUVWXY"))
    lines = {line for name, line, kind in found(examination) if (name, kind) == ("train.jsonl", "unknown-character")}
    assert lines == {line for line in range(1, 25) if "z" in corpus.text("train", line)} != set()
    assert "'Z' (U+005A" in examination.findings[0].message


def test_a_character_that_no_other_utterance_has(tmp_path: Path, rng) -> None:
    corpus = Corpus(tmp_path, rng, counts=(100, 2))
    corpus.set_text("train", LINE, corpus.text("train", LINE) + " ç")
    examination = diagnose(corpus, options=DoctorOptions(text=TextOptions(language="de")))
    assert found(examination) == {("train.jsonl", LINE, "rare-character")}
    assert "'Ç' (U+00C7)" in examination.findings[0].message


def test_short_and_usual_sentences_may_be_in_both(corpus: Corpus) -> None:
    corpus.set_text("train", LINE, "seven dogs jump")
    corpus.set_text("test", 3, "Seven dogs jump!")
    examination = diagnose(corpus)
    assert found(examination) == {("train.jsonl", LINE, "common-text")} and examination.is_healthy
    assert examination.findings[0].message == f"'SEVEN DOGS JUMP' is also {corpus.manifests['test']}:3"


def test_marks_are_shown_and_broken_only_where_they_are_refused(corpus: Corpus) -> None:
    corpus.set_text("train", LINE, f"[noise] <unk> {corpus.text('train', LINE)} (laughs) ♪♪")
    examination = diagnose(corpus)
    assert found(examination) == {("train.jsonl", LINE, "marks")} and examination.is_healthy
    assert re.match(r"'\[noise\]', '<unk>', '\(laughs\)' and 1 more left out of '", examination.findings[0].message)
    assert "NOISE" not in examination.cases[LINE - 1].text
    kept = diagnose(corpus, options=DoctorOptions(text=asr.TextOptions(marks="keep")))
    assert "kept as words in" in next(finding.message for finding in kept.findings if finding.kind == "marks")
    refused = diagnose(corpus, options=DoctorOptions(text=asr.TextOptions(marks="refuse")))
    assert found(refused) == {("train.jsonl", LINE, "refused-marks")} and not refused.is_healthy


def test_a_low_rate_is_a_note(corpus: Corpus, rng) -> None:
    samples = voice(rng, seconds=2.0, sample_rate=8000)
    soundfile.write(corpus.sound("train", LINE), samples, 8000)
    corpus.declare("train", LINE, num_samples=2 * SAMPLE_RATE)
    corpus.edit("train", LINE, lambda cut: cut["recording"].update(sampling_rate=8000, num_samples=len(samples)))
    examination = diagnose(corpus)
    assert found(examination) == {("train.jsonl", LINE, "low-rate")} and examination.is_healthy
    assert examination.findings[0].message == "8000 Hz, but the model uses 16000"


def test_an_utterance_that_ends_after_its_recording(corpus: Corpus) -> None:
    """By less than a manifest may, whose times may be rounded, and more than is wanted."""

    def change(cut: dict) -> None:
        cut["duration"] = cut["supervisions"][0]["duration"] = cut["recording"]["duration"] + 0.02

    corpus.edit("train", LINE, change)
    assert found(diagnose(corpus)) == set()
    examination = diagnose(corpus, options=DoctorOptions(tolerance=0.01))
    assert found(examination) == {("train.jsonl", LINE, "duration")}
    assert re.fullmatch(r"it ends at 2\.\d{3} s, the recording at 2\.\d{3} s", examination.findings[0].message)


def test_segments_of_one_recording_are_heard_in_one_pass(tmp_path: Path, rng) -> None:
    """Of two channels and three stretches, the silent one is found, and the file is decoded once."""
    left, right = voice(rng, seconds=6.0), voice(rng, seconds=6.0)
    left[2 * SAMPLE_RATE : 4 * SAMPLE_RATE] = 0
    soundfile.write(tmp_path / "long.wav", np.stack([left, right], axis=1), SAMPLE_RATE)
    stretches = [(0.0, 0), (2.0, 0), (2.0, 1), (4.0, 1)]
    utterances = [
        Utterance(id=f"u{n}", audio=tmp_path / "long.wav", start_seconds=start, duration_seconds=2.0, channel=channel,
                  text=f"this is what utterance {'abcd'[n]} says")
        for n, (start, channel) in enumerate(stretches)
    ]  # fmt: skip
    write_manifest(utterances, tmp_path / "all.jsonl")
    examination = examine({str(tmp_path / "all.jsonl"): ""})
    assert found(examination) == {("all.jsonl", 2, "silent")} and examination.num_files == 1


def test_texts_that_are_swapped_or_of_something_else(tone_run: tuple[Path, list[str]], tone_corpus, tmp_path) -> None:
    recognizer = asr.load(tone_run[0] / "model", device="cpu", precision="float32")
    lines = [json.loads(line) for line in gzip.decompress((tone_corpus / "train.jsonl.gz").read_bytes()).splitlines()]
    manifest = tmp_path / "train.jsonl"
    said = {
        "swapped": r"'[A-Z ]+' does not fit, and '[A-Z ]+' of .*train.jsonl:\d+ does",
        "mismatch": r"\d+\.\d nats per character \(usual here: \d+\.\d\): '[A-Z ]+'",
        "unknown-character": r"'Q' \(U\+0051\) in '[A-Z ]+'",
        "no-match": r"the median text is \d+\.\d nats per character less likely than the model's best path",
    }

    def diagnosis() -> set[tuple[int, str]]:
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
        examination = examine({str(manifest): "train"}, DoctorOptions(slowest=0.1), recognizer=recognizer)
        for finding in examination.findings:
            assert re.match(said[finding.kind], finding.message)
        return {(finding.line, finding.kind) for finding in examination.findings}

    assert diagnosis() == set()
    for hear in (False, True):
        cases = examine({str(manifest): "train"}, recognizer=recognizer, hear=hear).cases
        assert [case.match.heard if case.match else None for case in cases] == [case.text * hear for case in cases]
    texts = [line["supervisions"][0]["text"] for line in lines]
    at = next(i for i in range(40) if len(texts[i]) == len(texts[i + 1]) > 5 and texts[i] != texts[i + 1])
    lines[at]["supervisions"][0]["text"], lines[at + 1]["supervisions"][0]["text"] = texts[at + 1], texts[at]
    assert diagnosis() == {(at + 1, "swapped"), (at + 2, "swapped")}
    lines[at]["supervisions"][0]["text"], lines[at + 1]["supervisions"][0]["text"] = texts[at], texts[at + 1]
    other = "".join({"A": "B", "B": "C", "C": "A"}.get(letter, letter) for letter in texts[at])
    lines[at]["supervisions"][0]["text"] = other
    assert diagnosis() == {(at + 1, "mismatch")}
    lines[at]["supervisions"][0]["text"] = texts[at] + " Q"
    assert diagnosis() == {(at + 1, "unknown-character")}
    for line, text in zip(lines, texts, strict=True):
        line["supervisions"][0]["text"] = "".join({"A": "B", "B": "C", "C": "A"}.get(x, x) for x in text)
    assert {kind for _, kind in diagnosis()} == {"no-match"}


def test_fix_loses_no_line(corpus: Corpus) -> None:
    for _, _, plant in PLANTED[2:5:2]:
        plant(corpus)
    corpus.set_text("train", 9, "")
    corpus.edit("train", 11, lambda cut: cut.update(id="train-01"))
    before = corpus.manifests["train"].read_text().splitlines(keepends=True)
    examination = diagnose(corpus)
    train, test = clean(examination)
    assert (train.num_kept, train.num_quarantined) == (22, 2) and (test.num_kept, test.num_quarantined) == (6, 0)
    kept = train.clean.read_text().splitlines(keepends=True)
    taken = [json.loads(line) for line in train.quarantine.read_text().splitlines()]
    assert [record["line"] for record in taken] == [LINE, 11]
    assert [record["reasons"][0]["kind"] for record in taken] == ["empty", "duplicate-id"]
    for record in taken:
        kept.insert(record["line"] - 1, record["cut"] + "\n")
    assert kept == before == corpus.manifests["train"].read_text().splitlines(keepends=True)
    assert len(read_manifest(train.clean, check_audio=True)) == 22
    again = examine({str(train.clean): "train"})
    assert found(again) == {("train.clean.jsonl", 8, "no-text")}
    assert clean(examination, also=["no-text"])[0].num_kept == 21
    with pytest.raises(ConfigError, match=r"kinds of findings are manifest, missing.*got 'nothing'"):
        clean(examination, also=["nothing"])


def test_a_packed_manifest_that_breaks_off(corpus: Corpus, tmp_path: Path) -> None:
    whole = gzip.compress(corpus.manifests["train"].read_bytes())
    (tmp_path / "half.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    examination = examine({str(tmp_path / "half.jsonl.gz"): "train"})
    last = examination.findings[-1]
    assert last.kind == "manifest" and last.line == len(examination.cases) + 1
    with pytest.raises(DataError, match="a manifest to clean must be readable to its end"):
        clean(examination)


def test_a_packed_manifest_with_a_wrong_byte(corpus: Corpus, tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(corpus.manifests["train"].read_bytes()))
    whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "bad.jsonl.gz").write_bytes(whole)
    examination = examine({str(tmp_path / "bad.jsonl.gz"): "train"})
    assert examination.findings[-1].kind == "manifest"
    with pytest.raises(DataError, match="a manifest to clean must be readable to its end"):
        clean(examination)


def test_manifests_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such manifest"):
        examine({str(tmp_path / "none.jsonl"): ""})
    with pytest.raises(ConfigError, match="at least one manifest"):
        examine({})
    (tmp_path / "nothing.jsonl").write_text("")
    examination = examine({str(tmp_path / "nothing.jsonl"): ""})
    assert found(examination) == {("nothing.jsonl", 1, "manifest")}
    assert examination.findings[0].message == "it has no utterances"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl.gz", "train"),
        ("a/train/x-dev.jsonl", "dev"),
        ("valid_1.jsonl", "dev"),
        ("mytest.jsonl", ""),
        ("testing_set.jsonl", "test"),
    ],
)
def test_the_split_is_in_the_name(name: str, split: str) -> None:
    assert find_split(Path(name).name) == split


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clipped": -1.0}, "clipped must be at least 0, not -1"),
        ({"shortest": 30.0}, "shortest must be less than longest, not 30.0 and 30.0"),
        ({"slowest": 40.0}, "slowest must be less than fastest, not 40.0 and 30.0"),
    ],
)
def test_limits_that_contradict_each_other(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DoctorOptions(**options)

"""Manifests against Lhotse itself: it reads what we write, and what it writes is read."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lhotse
import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asr.data.manifest import Utterance, is_manifest, read_manifest, read_usable, scan_manifest, write_manifest
from asr.errors import ConfigError, DataError, InputError
from asr.files import texts as text_files


def sound(path: Path, *, seconds: float = 2.0, channels: int = 1, sample_rate: int = 16000) -> Path:
    samples = np.random.default_rng(len(path.name)).uniform(-0.5, 0.5, (round(seconds * sample_rate), channels))
    soundfile.write(path, samples, sample_rate, subtype="PCM_16")
    return path


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    one, two = sound(tmp_path / "one.flac"), sound(tmp_path / "two.wav", channels=2, sample_rate=8000)
    return [
        Utterance(id="a", audio=one, duration_seconds=2.0, text="HELLO WORLD", speaker="ann"),
        Utterance(id="b", audio=two, start_seconds=0.25, duration_seconds=0.5, text="好棒\u2028棒", channel=1),
        Utterance(id="c", audio=two, start_seconds=1.0, duration_seconds=1.0, text=""),
    ]


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, utterances: list[Utterance], name: str) -> None:
    write_manifest(utterances, tmp_path / "new" / name)
    assert read_manifest(tmp_path / "new" / name, check_audio=True) == utterances
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_lhotse_reads_what_is_written(tmp_path: Path, utterances: list[Utterance]) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    write_manifest(utterances, path)
    cuts = CutSet.from_file(path).to_eager()
    lhotse.validate(cuts, read_data=True)
    assert [cut.id for cut in cuts] == ["a", "b", "c"]
    assert [cut.supervisions[0].text for cut in cuts] == [utterance.text for utterance in utterances]
    assert [cut.supervisions[0].speaker for cut in cuts] == ["ann", None, None]
    assert cuts["b"].recording == cuts["c"].recording
    whole, _ = soundfile.read(utterances[1].audio, dtype="float32")
    np.testing.assert_array_equal(cuts["b"].load_audio()[0], whole[2000:6000, 1])
    np.testing.assert_array_equal(cuts["c"].load_audio()[0], whole[8000:, 0])


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_what_lhotse_writes_is_read(tmp_path: Path, name: str) -> None:
    recording = Recording.from_file(sound(tmp_path / "long.wav", seconds=5))
    supervisions = [
        SupervisionSegment(id="s1", recording_id="long", start=0.5, duration=1.5, text="one", speaker="x"),
        SupervisionSegment(id="s2", recording_id="long", start=3, duration=2, text="two"),
    ]
    cuts = CutSet.from_manifests(
        recordings=RecordingSet.from_recordings([recording]),
        supervisions=SupervisionSet.from_segments(supervisions),
    ).trim_to_supervisions()
    cuts.to_file(tmp_path / name)
    one, two = read_manifest(tmp_path / name)
    assert (one.audio, one.start_seconds, one.duration_seconds, one.text, one.speaker, one.channel) == (
        tmp_path / "long.wav", 0.5, 1.5, "one", "x", 0,
    )  # fmt: skip
    assert (two.start_seconds, two.duration_seconds, two.text, two.speaker) == (3.0, 2.0, "two", None)


def test_the_channel_counts_within_its_file(tmp_path: Path) -> None:
    sources = [
        lhotse.AudioSource(type="file", channels=[0, 1], source="stereo.wav"),
        lhotse.AudioSource(type="file", channels=[2, 5], source="more.wav"),
    ]
    recording = Recording(id="r", sources=sources, sampling_rate=16000, num_samples=16000, duration=1.0)
    supervision = SupervisionSegment(id="c", recording_id="r", start=0, duration=1.0, channel=5, text="x")
    cut = MonoCut(id="c", start=0, duration=1.0, channel=5, recording=recording, supervisions=[supervision])
    CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl")
    (utterance,) = read_manifest(tmp_path / "cuts.jsonl")
    assert (utterance.audio, utterance.channel) == (tmp_path / "more.wav", 1)


def test_same_utterances_same_bytes(
    tmp_path: Path, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(utterances, tmp_path / "one.jsonl.gz")
    monkeypatch.setattr("time.time", lambda: 0.0)
    write_manifest(utterances, tmp_path / "two.jsonl.gz")
    assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "two.jsonl.gz").read_bytes()


def test_no_utterances(tmp_path: Path) -> None:
    write_manifest([], tmp_path / "cuts.jsonl.gz")
    assert read_manifest(tmp_path / "cuts.jsonl.gz") == []


def test_relative_paths(tmp_path: Path, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read, they start from the manifest's folder; written, from the working directory."""
    monkeypatch.chdir(tmp_path)
    relative = Utterance(id="a", audio=Path("one.flac"), duration_seconds=2.0, text="x")
    write_manifest([relative], tmp_path / "deeper" / "cuts.jsonl")
    assert read_manifest(tmp_path / "deeper" / "cuts.jsonl")[0].audio == tmp_path / "one.flac"
    line = (tmp_path / "deeper" / "cuts.jsonl").read_text().replace(str(tmp_path / "one.flac"), "../one.flac")
    (tmp_path / "deeper" / "cuts.jsonl").write_text(line)
    monkeypatch.chdir("/")
    assert (
        read_manifest(tmp_path / "deeper" / "cuts.jsonl", check_audio=True)[0].audio == tmp_path / "deeper/../one.flac"
    )


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "cuts.jsonl.gz"
    write_manifest(utterances, path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("asr.data.manifest.os.replace", fail)
    with pytest.raises(OSError, match="no"):
        write_manifest(utterances[:1], path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def changed(cut: dict, **changes: object) -> dict:
    """The cut with fields changed; "supervision.text" names an inner one, None removes it."""
    cut = json.loads(json.dumps(cut))
    for name, value in changes.items():
        *outer, key = name.split("__")
        place = cut
        for step in outer:
            place = cut["supervisions"][0] if step == "supervision" else place[step]
        if value is None:
            del place[key]
        else:
            place[key] = value
    return cut


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": None}, "the cut must have 'id'"),
        ({"id": 7}, "'id' of the cut must be of type str, got 7"),
        ({"id": ""}, "the id of an utterance must not be empty"),
        ({"type": None}, r"must be a cut, got one without 'type'.*trim_to_supervisions"),
        ({"type": "MultiCut"}, r"cut 'b' must be a MonoCut, got MultiCut.*save_audios"),
        ({"supervisions": []}, r"cut 'b' must have one supervision, got 0 \(lhotse: cuts.filter"),
        ({"supervisions": [{}, {}]}, r"one supervision, got 2 \(lhotse: cuts.trim_to_supervisions"),
        ({"supervisions": ["x"]}, "the supervision of cut 'b' must be a JSON object, got 'x'"),
        ({"supervision__text": None}, "the supervision of cut 'b' must have 'text'"),
        ({"supervision__text": 3}, "'text' of the supervision of cut 'b' must be of type str, got 3"),
        ({"supervision__speaker": 3}, "'speaker' of the supervision of cut 'b' must be of type str, got 3"),
        ({"supervision__start": -0.2}, "must lie within it, but spans -0.2 to 0.3 s of 0.5 s"),
        ({"supervision__duration": 0.6}, "must lie within it, but spans 0 to 0.6 s of 0.5 s"),
        ({"duration": -1.0, "supervision__duration": -1.0}, "the duration of 'b' must be > 0 seconds, got -1.0"),
        ({"duration": True}, "'duration' of cut 'b' must be of type float, got True"),
        ({"duration": "1"}, "'duration' of cut 'b' must be of type float, got '1'"),
        ({"duration": 10**400}, "'duration' of cut 'b' must be a finite number, got 10000"),
        ({"start": 1e308, "recording__duration": 1e308}, r"'b' must end within 1e\+09 seconds, got 1e\+308"),
        ({"recording__sources": [{"type": "file", "channels": [1], "source": "\0"}]}, "'source' of .* have no NUL"),
        ({"id": "a\0b"}, "'id' of the cut must have no NUL"),
        ({"supervision__speaker": "a\0b"}, "'speaker' of the supervision of cut 'b' must have no NUL"),
        ({"duration": float("nan")}, "'duration' of cut 'b' must be a finite number, got nan"),
        ({"start": -0.5}, "the start of 'b' must be >= 0 seconds, got -0.5"),
        ({"start": 1.6}, "cut 'b' must end within its recording of 2 s, got 2.1 s"),
        ({"channel": [0, 1]}, "'channel' of cut 'b' must be of type int"),
        ({"channel": 2}, "the recording of cut 'b' must have channel 2, but does not"),
        ({"recording": None}, "cut 'b' must have 'recording'"),
        ({"recording__transforms": [{"name": "Speed"}]}, "recording of cut 'b' must not have transforms"),
        ({"recording__sources": [{"type": "command", "channels": [1], "source": "cat x"}]},
         r"got type 'command' \(write the audio"),
    ],
)  # fmt: skip
def test_a_bad_cut(tmp_path: Path, utterances: list[Utterance], changes: dict[str, object], message: str) -> None:
    path = tmp_path / "cuts.jsonl"
    write_manifest(utterances, path)
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[1] = json.dumps(changed(json.loads(lines[1]), **changes))
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}:2: .*{message}"):
        read_manifest(path)


HOSTILE = (
    None, True, 0, -1, 10**30, 10**400, 1e308, -1e308, float("inf"), float("nan"), "", "\0", "a\0b", "\ud800",
    "../../evil", "x" * 100_000, "9" * 5000, "1e999", [], {}, [[]], [None], {"a": 1},
)  # fmt: skip


def test_no_value_anywhere_in_a_line_spoils_the_others(tmp_path: Path, utterances: list[Utterance]) -> None:
    """Each of 23 values in the place of each field of a cut, its supervision, its recording and its source."""
    path = tmp_path / "cuts.jsonl"
    write_manifest(utterances[:2], path)
    good, cut = map(json.loads, path.read_text(encoding="utf-8").rstrip("\n").split("\n"))
    source = cut["recording"]["sources"][0]
    fields = [*cut, *(f"supervision__{key}" for key in cut["supervisions"][0])]
    fields += [f"recording__{key}" for key in cut["recording"]]
    changes = [{field: value} for field in fields for value in HOSTILE]
    changes += [{"recording__sources": [source | {key: value}]} for key in source for value in HOSTILE]
    lines = [json.dumps(good), *(json.dumps(changed(cut, **change)) for change in changes)]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = list(scan_manifest(path))
    assert [line.number for line in found] == list(range(1, len(lines) + 1))
    usable = read_usable(path)
    assert len(usable) == len(lines) and usable[0] == utterances[0]
    wrong = [each for each in usable if isinstance(each, DataError)]
    assert {error.path for error in wrong} == {str(path)} and len(wrong) > len(lines) / 2
    assert max(len(str(error)) for error in wrong) < 300 + len(str(path))


def test_what_follows_damage_is_one_error(tmp_path: Path, utterances: list[Utterance]) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    write_manifest(utterances, path)
    path.write_bytes(path.read_bytes()[:-9])
    *good, error = read_usable(path)
    assert good == utterances[: len(good)] and isinstance(error, DataError) and error.line == len(good) + 1
    with pytest.raises(DataError, match="no such manifest"):
        read_usable(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"empty.jsonl: there are no utterances in this manifest"):
        read_usable(tmp_path / "empty.jsonl")


@pytest.mark.parametrize("key", ["audio_filepath", "path", "audio"])
def test_a_manifest_of_nemo_gets_advice(tmp_path: Path, key: str) -> None:
    path = tmp_path / "nemo.jsonl"
    path.write_text(json.dumps({key: "a.wav", "duration": 1.0, "text": "hello"}))
    with pytest.raises(
        DataError, match=rf"nemo.jsonl:1: each line must be a Lhotse cut, .*NeMo's.*{key}.*asr-data import"
    ):
        read_manifest(path)


def test_a_number_of_5000_digits_is_refused_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"id": "a", "start": {"9" * 5000}}}\n')
    message = r"a.jsonl:1: each line must be one JSON object: its whole numbers must have at most \d+ digits, but one"
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / "a.jsonl")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_pipe_or_a_folder_is_no_manifest(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: cannot be read: it must be a regular file, not a pipe$"):
        read_manifest(tmp_path / name)
    (tmp_path / "b.jsonl").mkdir()
    with pytest.raises(DataError, match=r"b.jsonl: cannot be read: it must be a regular file, not a folder$"):
        read_manifest(tmp_path / "b.jsonl")


@pytest.mark.parametrize("read", [read_manifest, read_usable])
def test_a_bomb_is_no_manifest(tmp_path: Path, read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "FREE_BYTES", 1 << 20)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * 3_000_000))
    with pytest.raises(DataError, match=r"a.jsonl.gz: a compressed text must unpack to at most 200 times its size"):
        read(path)


def test_blank_lines_are_nothing(tmp_path: Path, utterances: list[Utterance]) -> None:
    path = tmp_path / "cuts.jsonl"
    write_manifest(utterances, path)
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    path.write_text("\n\n".join(lines) + "\r\n \n\n", encoding="utf-8")
    assert read_manifest(path) == utterances
    assert [line.number for line in scan_manifest(path)] == [1, 3, 5]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_manifest_with_a_byte_order_mark(tmp_path: Path, utterances: list[Utterance], encoding: str) -> None:
    path = tmp_path / "cuts.jsonl"
    write_manifest(utterances, path)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert read_manifest(path) == utterances


@pytest.mark.parametrize("line", ["{", "[" * 100_000, "[1, 2]", "7", "9" * 5000])
def test_a_line_that_is_no_object(tmp_path: Path, utterances: list[Utterance], line: str) -> None:
    path = tmp_path / "cuts.jsonl"
    write_manifest(utterances, path)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"cuts.jsonl:4: each line must be one JSON object"):
        read_manifest(path)


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
@pytest.mark.parametrize("character", [b"\xe9", b"\\ud8e9"])
def test_bytes_that_are_not_utf_8_are_on_their_line(
    tmp_path: Path, utterances: list[Utterance], name: str, character: bytes
) -> None:
    path = tmp_path / name
    opened = gzip.open if name.endswith(".gz") else open
    write_manifest([replace(utterance, text=f"word {n}") for n, utterance in enumerate(utterances)], path)
    with opened(path, "rb") as file:
        lines = file.read()
    with opened(path, "wb") as file:
        file.write(b"\xef\xbb\xbf" + lines.replace(b"word 1", b"caf" + character))  # a byte-order mark is no fault
    with pytest.raises(DataError, match=r":2: 'text' of the supervision of cut 'b' must be UTF-8, got 'caf"):
        read_manifest(path)


def test_cuts_that_lhotse_mixed_or_changed(tmp_path: Path, utterances: list[Utterance]) -> None:
    write_manifest(utterances, tmp_path / "cuts.jsonl")
    cut = CutSet.from_file(tmp_path / "cuts.jsonl").to_eager()["a"]
    for other, message in [
        (cut.pad(5.0), "must be a MonoCut, got MixedCut"),
        (cut.perturb_speed(0.9), "must not have transforms"),
        (cut.drop_supervisions(), "got 0"),
    ]:
        CutSet.from_cuts([other]).to_file(tmp_path / "other.jsonl")
        with pytest.raises(DataError, match=rf"other.jsonl:1: .*{message}"):
            read_manifest(tmp_path / "other.jsonl")


def test_recordings_are_not_cuts(tmp_path: Path) -> None:
    recordings = RecordingSet.from_recordings([Recording.from_file(sound(tmp_path / "x.wav"))])
    recordings.to_file(tmp_path / "recordings.jsonl.gz")
    with pytest.raises(DataError, match=r"recordings.jsonl.gz:1: .*CutSet.from_manifests"):
        read_manifest(tmp_path / "recordings.jsonl.gz")


def test_an_id_twice(tmp_path: Path, utterances: list[Utterance]) -> None:
    with pytest.raises(InputError, match="ids must differ, but 'a' is used twice"):
        write_manifest([*utterances, utterances[0]], tmp_path / "cuts.jsonl")
    path = tmp_path / "cuts.jsonl"
    write_manifest(utterances, path)
    lines = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join([*lines[:3], lines[0]]), encoding="utf-8")
    with pytest.raises(DataError, match=r"cuts.jsonl:4: ids must differ, but 'a' is also on line 1"):
        read_manifest(path)


def test_missing_audio_is_an_error_when_asked_for(tmp_path: Path, utterances: list[Utterance]) -> None:
    write_manifest(utterances, tmp_path / "cuts.jsonl")
    utterances[1].audio.unlink()
    assert read_manifest(tmp_path / "cuts.jsonl") == utterances
    with pytest.raises(DataError, match=r"cuts.jsonl:2: the audio of 'b' must be a file, but there is none: .*two.wav"):
        read_manifest(tmp_path / "cuts.jsonl", check_audio=True)


def test_a_file_that_is_missing_or_damaged(tmp_path: Path, utterances: list[Utterance]) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    with pytest.raises(DataError, match="no such manifest"):
        read_manifest(path)
    write_manifest(utterances, path)
    whole = path.read_bytes()
    for data in (whole[:-20], whole[:100] + b"x" + whole[101:], b"no gzip", gzip.compress(b'"\xff\xfe"\n')):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"cuts.jsonl.gz:\d+: (cannot be read|each line)"):
            read_manifest(path)
    with pytest.raises(
        DataError,
        match=r"must end in .jsonl or .jsonl.gz, got 'cuts.json' \(lhotse: cuts.to_jsonl\); asr-data import makes",
    ):
        read_manifest(tmp_path / "cuts.json")
    with pytest.raises(InputError, match=r"must end in .jsonl or .jsonl.gz"):
        write_manifest(utterances, tmp_path / "cuts.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": "none.wav"}, r"none.wav: no such audio file"),
        ({"audio": "text.wav"}, r"text.wav: must be audio that libsndfile reads: "),
        ({"start_seconds": 1.6}, r"one.flac: lasts 2 s but 'x' ends at 2.1 s"),
        ({"channel": 1}, r"one.flac: has 1 channel\(s\) but 'x' is on channel 1"),
    ],
)
def test_audio_that_does_not_hold_its_utterance(
    tmp_path: Path, utterances: list[Utterance], changes: dict[str, object], message: str
) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    fields = {"id": "x", "audio": "one.flac", "duration_seconds": 0.5, "text": ""} | changes
    fields["audio"] = tmp_path / str(fields["audio"])
    with pytest.raises(DataError, match=message):
        write_manifest([Utterance(**fields)], tmp_path / "cuts.jsonl")
    assert not (tmp_path / "cuts.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "the id of an utterance must not be empty"),
        ({"start_seconds": -1.0}, "the start of 'x' must be >= 0 seconds, got -1.0"),
        ({"start_seconds": float("inf")}, "the start of 'x' must be >= 0 seconds, got inf"),
        ({"duration_seconds": 0.0}, "the duration of 'x' must be > 0 seconds, got 0.0"),
        ({"duration_seconds": 1e308}, r"'x' must end within 1e\+09 seconds, got 1e\+308"),
        ({"start_seconds": 1e9}, r"'x' must end within 1e\+09 seconds, got 1e\+09"),
        ({"duration_seconds": float("nan")}, "the duration of 'x' must be > 0 seconds, got nan"),
        ({"channel": -1}, "the channel of 'x' must be >= 0 and < 65536, got -1"),
        ({"channel": 10**30}, "the channel of 'x' must be >= 0 and < 65536, got 1000"),
        ({"id": "a\0b"}, r"an id must have at most 500 characters, and no NUL, got 3: 'a\\x00b'"),
        ({"id": "a" * 501}, "an id must have at most 500 characters, and no NUL, got 501: 'aaa"),
    ],
)
def test_an_utterance_out_of_range(changes: dict[str, object], message: str) -> None:
    fields = {"id": "x", "audio": Path("x.wav"), "duration_seconds": 1.0, "text": ""} | changes
    with pytest.raises(InputError, match=message):
        Utterance(**fields)


def test_without_lhotse(tmp_path: Path, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(utterances, tmp_path / "cuts.jsonl")
    monkeypatch.setitem(sys.modules, "lhotse", None)
    assert read_manifest(tmp_path / "cuts.jsonl") == utterances
    with pytest.raises(
        ConfigError, match=r"^writing a manifest needs lhotse, which is not installed: .*'asr\[train\]'$"
    ):
        write_manifest(utterances, tmp_path / "other.jsonl")


def test_a_manifest_is_told_by_its_name() -> None:
    assert is_manifest("a/train.jsonl.gz") and is_manifest(Path("train.jsonl"))
    assert not is_manifest("s3://bucket/train") and not is_manifest("shards.jsonl/train")

"""Corpora in their publishers' layouts, in miniature, as collections that `asr.corpora.english` reads."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpora import english
from asr.data.manifest import read_manifest
from recipes.english import gather


def record(path: Path, *, rate: int = 16000, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    waveform = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))
    soundfile.write(path, waveform, rate)


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """Name, text, speaker and split of a collection's corpus, whose files are all FLAC of 16 kHz."""
    with (folder / "manifest.tsv").open(newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for line in lines:
        info = soundfile.info(folder / line["path"])
        assert (info.samplerate, info.channels, info.format) == (16000, 1, "FLAC")
        assert float(line["seconds"]) == pytest.approx(info.duration, abs=0.01)
    return [(line["path"], line["transcript"], line["speaker"], line["split"]) for line in lines]


def librispeech(root: Path) -> Path:
    chapter = root / "LibriSpeech" / "dev-clean" / "84" / "121"
    record(chapter / "84-121-0000.flac")
    record(chapter / "84-121-0001.wav")
    (chapter / "84-121.trans.txt").write_text("84-121-0000 GO DO YOU HEAR\n84-121-0001 BUT IN\n")
    (chapter / "._84-121.trans.txt").write_bytes(b"\xff")  # as some archives have it
    return root / "LibriSpeech" / "dev-clean"


def test_librispeech(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "collection" / "dev_clean"
    assert gather.main(["librispeech", str(librispeech(tmp_path)), str(folder), "--split", "dev"]) == 0
    assert rows(folder) == [
        ("84-121-0000.flac", "GO DO YOU HEAR", "ls-84", "dev"),
        ("84-121-0001.flac", "BUT IN", "ls-84", "dev"),
    ]
    assert capsys.readouterr().err == ""


def test_what_other_corpora_hold_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "mini" / "84" / "84-121-0000.flac")
    folder = tmp_path / "collection" / "dev_clean"
    assert (
        gather.main(["librispeech", str(librispeech(tmp_path)), str(folder), "--without", str(tmp_path / "mini")]) == 0
    )
    assert [row[0] for row in rows(folder)] == ["84-121-0001.flac"]
    assert "1 of 2 left out: they are in other corpora" in capsys.readouterr().err
    arguments = ["librispeech", str(librispeech(tmp_path)), str(tmp_path / "other"), "--without", "no/such/corpus"]
    assert gather.main(arguments) == 2
    assert "--without must be the folder of a corpus, but no/such/corpus is none" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_ljspeech(tmp_path: Path) -> None:
    corpus = tmp_path / "LJSpeech-1.1"
    record(corpus / "wavs" / "LJ001-0001.wav", rate=22050)
    (corpus / "metadata.csv").write_text('LJ001-0001|in "1455"|in "fourteen"\nLJ009-0001|not|here\n')
    assert gather.main(["ljspeech", str(corpus), str(tmp_path / "lj")]) == 0
    assert rows(tmp_path / "lj") == [("LJ001-0001.flac", 'in "fourteen"', "ljspeech", "train")]


@pytest.mark.parametrize("published", [True, False])
def test_arctic(tmp_path: Path, published: bool) -> None:
    corpus = tmp_path / "slt"
    record(corpus / ("wav" if published else ".") / "arctic_a0001.wav")
    prompts = corpus / "etc" / "txt.done.data" if published else tmp_path / "cmuarctic.data"
    prompts.parent.mkdir(exist_ok=True)
    prompts.write_text('( arctic_a0001 "Author of the trail." )\n( arctic_a0002 "Not here." )\n')
    flags = [] if published else ["--texts", str(prompts)]
    assert gather.main(["arctic", str(corpus), str(tmp_path / "arctic"), *flags]) == 0
    assert rows(tmp_path / "arctic") == [("arctic_a0001.flac", "Author of the trail.", "arctic-slt", "train")]


def test_rhasspy(tmp_path: Path) -> None:
    corpus = tmp_path / "dataset-voice-ann"
    for name in ("a0001_15", "a0001_16"):
        record(corpus / "data" / f"{name}.wav", rate=48000)
        (corpus / "data" / f"{name}.txt").write_text("Author of\nthe trail.\n")
    assert gather.main(["rhasspy", str(corpus), str(tmp_path / "ann")]) == 0
    assert rows(tmp_path / "ann") == [
        (f"{name}.flac", "Author of the trail.", "ann", "train") for name in ("a0001_15", "a0001_16")
    ]


def storybook(root: Path) -> tuple[Path, Path]:
    audio, texts = root / "asp-audio" / "en", root / "asp-source" / "en"
    line = (
        "[{0}](https://x/en/{0}_{1}) | [{2}](https://x/en/{0}_{1}.md) | An Author | [{3}](https://x/3.0/) | A Reader\n"
    )
    audio.mkdir(parents=True)
    texts.mkdir(parents=True)
    (audio / "README.md").write_text(
        "Index # | Story | Author | License | Read by\n------- | ---\n"
        + line.format("0001", "a-tall-man", "A tall man", "CC-BY")
        + line.format("0002", "the-animals", "The animals", "CC-BY-NC")
    )
    for number, title in (("0001", "a-very-tall-man"), ("0002", "the-animals")):
        (texts / f"{number}_{title}.md").write_text(
            "# A title\n\n##\nHis hoe\nwas short.\n\n##\n\n##\nNo sound here.\n\n##\nThe end.\n\n##\n* License: [CC]\n"
        )
    for story in ("0001_a-tall-man", "0002_the-animals"):
        for page in ("01", "02", "03", "05", "06"):
            record(audio / story / "mp3" / f"{page}.mp3", rate=44100)
    return audio, texts


def test_african_storybook(tmp_path: Path) -> None:
    audio, texts = storybook(tmp_path)
    assert gather.main(["african-storybook", str(audio), str(tmp_path / "asp"), "--texts", str(texts)]) == 0
    assert rows(tmp_path / "asp") == [
        ("0001-02.flac", "His hoe was short.", "asp-a-reader", "train"),
        ("0001-05.flac", "The end.", "asp-a-reader", "train"),
    ]


def test_what_is_gathered_can_be_trained_on(tmp_path: Path) -> None:
    gather.main(["librispeech", str(librispeech(tmp_path)), str(tmp_path / "collection" / "libri")])
    (tmp_path / "cmudict.dict").write_text("go G OW1\n")
    made = english.prepare(
        sources=[tmp_path / "collection"], cmudict=tmp_path / "cmudict.dict", output=tmp_path / "out", note=print
    )
    assert [utterance.id for utterance in read_manifest(made["train"])] == ["libri/84-121-0000", "libri/84-121-0001"]


def test_what_cannot_be_its_text_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "LJSpeech-1.1"
    for number, seconds in ((1, 1.0), (2, 9.0), (3, 0.1)):
        record(corpus / "wavs" / f"LJ001-000{number}.wav", seconds=seconds)
    (corpus / "metadata.csv").write_text("".join(f"LJ001-000{number}|x|ten letters\n" for number in (1, 2, 3)))
    assert gather.main(["ljspeech", str(corpus), str(tmp_path / "lj")]) == 0
    assert [row[0] for row in rows(tmp_path / "lj")] == ["LJ001-0001.flac"]
    assert "2 of 3 left out, too fast or too slow for their texts: LJ001-0002, LJ001-0003" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "..", ".evil", "", "a b", "a" * 300, "a\0b"])
def test_nothing_is_written_outside_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    corpus = tmp_path / "deep" / "LJSpeech-1.1"
    record(corpus / "wavs" / "ok.wav")
    record(tmp_path / "evil.wav")
    (corpus / "metadata.csv").write_text(f"ok|x|ten letters\n{name}|x|ten letters\n")
    before = sorted(tmp_path.rglob("*"))
    assert gather.main(["ljspeech", str(corpus), str(tmp_path / "deep" / "lj" / "a")]) == 1
    message = capsys.readouterr().err
    assert "a recording must be named by at most 200 letters" in message and message.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_two_recordings_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "LJSpeech-1.1"
    record(corpus / "wavs" / "a.wav")
    (corpus / "metadata.csv").write_text("a|x|ten letters\na|x|ten others\n")
    assert gather.main(["ljspeech", str(corpus), str(tmp_path / "lj")]) == 1
    assert "must hold recordings with different names, but 2 have 1" in capsys.readouterr().err


def test_a_list_that_has_no_end_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "metadata.csv")
    assert gather.main(["ljspeech", str(tmp_path), str(tmp_path / "lj")]) == 1
    assert "metadata.csv: cannot be read: it must be a regular file, not a pipe" in capsys.readouterr().err


def test_bad_corpora_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def message(*arguments: object) -> str:
        assert gather.main([*map(str, arguments), "--quiet"]) in (1, 2)
        return capsys.readouterr().err

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "must hold recordings in the layout librispeech" in message("librispeech", empty, tmp_path / "out")
    assert "metadata.csv: cannot be read: " in message("ljspeech", empty, tmp_path / "out")
    (empty / "prompts").write_text("arctic_a0001 text\n")
    text = message("arctic", empty, tmp_path / "out", "--texts", empty / "prompts")
    assert 'must be lines of ( NAME "TEXT" ), got' in text
    assert "needs the folder of the stories' texts" in message("african-storybook", empty, tmp_path / "out")
    (empty / "metadata.csv").write_text("LJ001-0001|only one\n")
    assert "must be lines of NAME|TEXT|TEXT" in message("ljspeech", empty, tmp_path / "out")
    record(empty / "wavs" / "LJ001-0001.wav")
    (empty / "metadata.csv").write_text("LJ001-0001|x|ten\tletters\n")
    text = message("ljspeech", empty, tmp_path / "out")
    assert "LJ001-0001.wav: a text must be one line without tabs or NUL, got 'ten\\tletters'" in text
    audio, texts = storybook(tmp_path)
    (texts / "0001_again.md").write_text("")
    text = message("african-storybook", audio, tmp_path / "out", "--texts", texts)
    assert "must hold one text of story 0001, but holds 2" in text
    chapter = librispeech(tmp_path) / "84" / "121"
    (chapter / "84-121-0001.wav").unlink()
    assert "84-121-0001.wav" in message("librispeech", chapter, tmp_path / "out")

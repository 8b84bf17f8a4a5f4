from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import asr
from asr.acoustic.model import AcousticModel
from asr.cli.evaluate import aligned_lines, error_lines, main, paired_lines, table
from asr.data.manifest import read_manifest
from asr.evaluation.error_rates import Evaluation, ScoredUtterance, compare, evaluate
from asr.text.metrics import ErrorCounts, PairedTest, align_tokens, character_errors, word_errors
from asr.text.normalization import TextOptions


def make_evaluation(
    pairs: list[tuple[str, str]], *, language: str = "en", speakers: list[str] | None = None, times: int = 1, **more
) -> Evaluation:
    """Of these references and hypotheses, taken so many times."""
    scored = [
        ScoredUtterance(
            id=f"u{number}",
            speaker=speakers[number % len(pairs)] if speakers else None,
            duration_seconds=2.5,
            reference=reference,
            hypothesis=hypothesis,
            words=word_errors(reference, hypothesis),
            characters=character_errors(reference, hypothesis, spaces=language != "zh"),
            judged=tuple((0.9, word in reference) for word in hypothesis.split()),
        )
        for number, (reference, hypothesis) in enumerate(pairs * times)
    ]
    values = {"model": "m", "text": TextOptions(language=language), "unreadable": (), "seconds": 0.05, **more}
    return Evaluation(utterances=tuple(scored), **values)


PAIRS = [("ONE TWO THREE", "ONE TOO THREE FOUR"), ("FIVE", ""), ("SIX", "SIX")]


def test_the_table_line_by_line():
    evaluation = make_evaluation(PAIRS, speakers=["x", "x", "y"])
    low, high = evaluation.wer.interval
    lines = list(table(evaluation, model="runs/a/model", manifest="test.jsonl"))
    assert lines == [
        "model  runs/a/model",
        "data   test.jsonl",
        "       3 utterances, 2 speakers, 7.5 s",
        "time   0.1 s, real-time factor 0.0067",
        "",
        "          rate      95 % interval  errors    sub    ins    del       of",
        f"WER    60.00 %{f'{100 * low:.2f} to {100 * high:.2f} %':>19}       3      1      1      1        5 words",
        lines[7],
        "     intervals: bootstrap over the 2 speakers",
        "     confidences of words: calibration error 30.00 points",  # 0.9 for five, of which three are right
    ]
    assert lines[7].split()[:2] == ["CER", "50.00"]  # 1 + 5 + 4 of 13 + 4 + 3
    assert lines[7].split()[-2:] == ["20", "chars"]


def test_the_table_fits_80_columns_for_a_large_corpus():
    huge = ErrorCounts(substitutions=10**6, insertions=10**6, deletions=10**6, reference_length=10**8)
    evaluation = make_evaluation([("A", "B"), ("A", "B C D")], times=100)
    for unit in ("wer", "cer"):
        object.__setattr__(getattr(evaluation, unit), "counts", huge)
    lines = list(table(evaluation, model="m", manifest="t"))
    assert max(map(len, lines)) <= 80
    assert "100000000 words" in lines[6]
    assert "     intervals: bootstrap over utterances" in lines


def test_chinese_has_cer_first():
    evaluation = make_evaluation([("好棒棒", "好棒"), ("我们", "我们")], language="zh")
    rows = [line for line in table(evaluation, model="m") if line[:3] in ("WER", "CER")]
    assert [row[:3] for row in rows] == ["CER", "WER"]
    assert rows[0].split()[1] == "20.00"


def test_what_was_unreadable_is_in_the_table():
    evaluation = make_evaluation(PAIRS, unreadable=(("u9", "gone"),))
    assert list(table(evaluation, model="m"))[-1] == "     1 could not be read, and are not counted"


def test_a_single_utterance_has_no_interval():
    lines = list(table(make_evaluation(PAIRS[:1]), model="m"))
    assert lines[-3].split() == ["WER", "66.67", "%", "-", "2", "1", "1", "0", "3", "words"]


def test_aligned_lines_mark_what_differs():
    steps = align_tokens(["THE", "CAT", "SAT", "DOWN"], ["THE", "COT", "SAT", "ON", "DOWN"])
    assert list(aligned_lines(steps, width=80)) == [
        "  REF THE CAT SAT *  DOWN",
        "  HYP THE COT SAT ON DOWN",
        "          S       I",
    ]


def test_aligned_lines_wrap_without_losing_a_word():
    reference = " ".join(f"WORD{number}" for number in range(40)).split()
    hypothesis = [word for word in reference if word != "WORD7"]
    lines = list(aligned_lines(align_tokens(reference, hypothesis), width=50))
    assert max(map(len, lines)) <= 50
    assert " ".join(line[6:] for line in lines[::3]).split() == reference
    assert " ".join(line[6:] for line in lines[1::3]).split() == [
        "*" if word == "WORD7" else word for word in reference
    ]
    assert "".join(line[6:] for line in lines[2::3]).split() == ["D"]


def test_aligned_lines_of_chinese_stand_in_columns_two_wide():
    assert list(aligned_lines(align_tokens("好棒棒", "好棒"), width=80)) == [
        "  REF 好 棒 棒",
        "  HYP 好 棒 *",
        "            D",
    ]


def test_error_lines():
    evaluation = make_evaluation(PAIRS, speakers=["x", "x", "y"])
    assert list(error_lines(evaluation, 1, width=80)) == [
        "u0, speaker x: 2 errors in 3",
        "  REF ONE TWO THREE *",
        "  HYP ONE TOO THREE FOUR",
        "          S         I",
        "",
        "most frequent errors:",
        "     1  FIVE left out",
        "     1  TWO -> TOO",
        "     1  FOUR inserted",
    ]
    assert list(error_lines(make_evaluation([("A", "A")]), 5, width=80)) == ["no errors"]


def test_paired_lines():
    test = PairedTest(difference=-0.012, low=-0.02, high=0.001, p_value=0.0314)
    assert list(paired_lines(test, "a", "b", make_evaluation(PAIRS))) == [
        "WER of a - WER of b:",
        "     -1.20 points, 95 % interval -2.00 to +0.10, p = 0.031",
    ]


@pytest.fixture(scope="module")
def other(tone_run, tmp_path_factory) -> str:
    """The folder of a model that is worse than that of tone_run, and spells in lower case."""
    model = AcousticModel.load(tone_run[0] / "model")
    model.config = replace(model.config, text=TextOptions(case="lower"))
    torch.manual_seed(0)
    with torch.no_grad():
        model.encoder.output.weight.add_(0.3 * torch.randn_like(model.encoder.output.weight))
    folder = tmp_path_factory.mktemp("other") / "model"
    model.save(folder)
    return str(folder)


@pytest.fixture
def dev(tone_corpus) -> Path:
    return tone_corpus / "dev.jsonl.gz"


def same_but_for_time(a: dict, b: dict) -> bool:
    timed = ("seconds", "real_time_factor")
    return {key: a[key] for key in a if key not in timed} == {key: b[key] for key in b if key not in timed}


def test_the_command_gives_what_python_gives(model, other, dev, tmp_path, capsys):
    output = tmp_path / "new" / "result.json"
    arguments = [model, str(dev), "--compare", other, "--precision", "float32", "--output", str(output)]
    assert main([*arguments, "--format", "json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    document = json.loads(printed.out)
    assert json.loads(output.read_text()) == document

    utterances = read_manifest(dev)
    ours, theirs = (
        evaluate(asr.load(folder, device="cpu", precision="float32"), utterances, text=TextOptions())
        for folder in (model, other)
    )
    compared = document.pop("compare")
    assert document.pop("manifest") == str(dev)
    assert same_but_for_time(document, json.loads(json.dumps(ours.to_json())))
    assert vars(compare(ours, theirs)) == {
        name: compared.pop(name) for name in ("difference", "low", "high", "p_value")
    }
    assert same_but_for_time(compared, json.loads(json.dumps(theirs.to_json())))
    assert ours.wer.counts.errors < theirs.wer.counts.errors


def test_the_command_prints_tables_errors_and_the_comparison(model, other, dev, capsys):
    assert main([other, str(dev), "--errors", "2", "--compare", model]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == f"model  {other}" and lines[1] == f"data   {dev}"
    assert sum(line.startswith("WER ") for line in lines) == 3  # both tables, and the comparison
    assert sum(line.startswith("  REF ") for line in lines) >= 2
    assert f"WER of {other} - WER of {model}:" in lines
    assert "most frequent errors:" in lines


def test_an_utterance_that_cannot_be_read_is_named_and_the_status_is_1(model, dev, tmp_path, capsys):
    lines = gzip.decompress(dev.read_bytes()).decode().splitlines(keepends=True)
    lines[1] = lines[1].replace(".wav", ".gone")
    (tmp_path / "cut.jsonl").write_text("".join(lines))
    assert main([model, str(tmp_path / "cut.jsonl")]) == 1
    printed = capsys.readouterr()
    assert "       7 utterances" in printed.out and "1 could not be read, and are not counted" in printed.out
    assert printed.err.startswith("asr-evaluate: error: utterance 'tone-45': ")
    assert "cannot be opened: No such file or directory" in printed.err
    assert printed.err.count("\n") == 1


def test_output_that_cannot_be_written_is_refused_before_the_evaluation(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["none", str(tmp_path / "none.jsonl"), "--output", str(tmp_path / "file" / "o.json")]) == 1
    assert capsys.readouterr().err == f"asr-evaluate: error: {tmp_path / 'file'}: a part of this path is a file\n"


def test_a_line_that_cannot_be_used_is_named_and_the_others_are_done(model, dev, tmp_path, capsys):
    lines = gzip.decompress(dev.read_bytes()).decode().splitlines()
    lines[1] = lines[1].replace('"start": ', '"start": 1e308, "was": ', 1)
    lines[3] = lines[3].replace('"id": "', '"id": "\\u0000', 1)
    (tmp_path / "m.jsonl").write_text("\n".join([*lines, "", ""]))
    assert main([model, str(tmp_path / "m.jsonl"), "--output", str(tmp_path / "o.json")]) == 1
    printed = capsys.readouterr()
    assert "       6 utterances" in printed.out
    assert "2 lines of the manifest cannot be used, and are left out of all figures" in printed.out
    first, second = printed.err.splitlines()
    assert first.startswith(f"asr-evaluate: error: {tmp_path}/m.jsonl:2: ")
    assert second.startswith(f"asr-evaluate: error: {tmp_path}/m.jsonl:4: 'id' of the cut must have no NUL")
    assert len(json.loads((tmp_path / "o.json").read_text())["unusable_lines"]) == 2


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("", 2, "the following arguments are required: MODEL, MANIFEST"),
        ("MODEL", 2, "the following arguments are required: MANIFEST"),
        ("MODEL x.jsonl", 1, "x.jsonl: no such manifest"),
        ("MODEL x.txt", 1, "a manifest's name must end in .jsonl or .jsonl.gz"),
        ("nothing DEV", 2, "no model 'nothing'"),
        ("MODEL DEV --errors 0", 2, "argument --errors: must be at least 1, not 0"),
        ("MODEL DEV --errors 3 --format json", 2, "--errors needs --format table; json lists every utterance"),
        ("MODEL DEV --beam-width 0", 2, "--beam-width must be between 1 and 10000, not 0"),
        ("MODEL EMPTY", 1, "empty.jsonl: there are no utterances in this manifest"),
        ("MODEL NEMO", 1, "nemo.jsonl:1: each line must be a Lhotse cut, got a line of a table, as NeMo"),
    ],
)
def test_wrong_usage_and_wrong_data(line, status, message, model, dev, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "nemo.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 1.0, "text": "a"}\n')
    names = {"MODEL": model, "DEV": str(dev), "EMPTY": "empty.jsonl", "NEMO": "nemo.jsonl"}
    assert main([names.get(word, word) for word in line.split()]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"asr-evaluate: error: {message}")
    assert printed.err.count("\n") == 1


def test_help_fits_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80

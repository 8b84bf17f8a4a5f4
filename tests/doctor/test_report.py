"""The doctor's table and JSON: every finding in each of them, nothing a terminal would take for a command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from asr.doctor.examination import Examination, examine
from asr.doctor.report import to_json, to_table
from tests.doctor.voices import Corpus


def test_the_table_fits_its_width(ill: Examination) -> None:
    table = to_table(ill, width=80)
    lines = table.splitlines()
    assert all(len(line) <= 80 or " " not in line.strip() for line in lines)
    assert lines[0].startswith("2 manifests, 30 utterances, 0.02 hours in 30 files, examined in")
    assert [line.split()[:3] for line in lines if line.startswith(("missing ", "clipped ", "dc-", "common"))] == [
        ["missing", "broken", "1"], ["clipped", "suspect", "2"], ["dc-offset", "suspect", "1"],
        ["common-text", "note", "1"],
    ]  # fmt: skip
    joined = " ".join(table.split())
    for finding in ill.findings:
        place = f"{finding.manifest}:{finding.line}: {finding.kind}: {finding.id}: "
        assert (place in joined) == (finding.level != "note")
    assert "\x1b" not in table and "\u202e" not in table


def test_the_table_says_what_it_leaves_out(ill: Examination) -> None:
    assert "... and 1 more of clipped" in to_table(ill, most=1)
    assert "more of" not in to_table(ill, most=0)


def test_json_has_everything(ill: Examination) -> None:
    document = json.loads(to_json(ill))
    assert document["counts"] == {
        **{"missing": 1, "clipped": 2, "dc-offset": 1, "digits": 1, "symbols": 1},
        **{"common-text": 1, "marks": 1},
    }
    assert document["healthy"] is False and document["utterances"] == 30
    assert [entry["line"] for entry in document["findings"]] == [finding.line for finding in ill.findings]
    quartiles = document["measured"]["duration"]["quartiles"]
    assert quartiles == sorted(quartiles) and quartiles[0] >= 2.0 and quartiles[-1] <= 2.4


def test_a_healthy_corpus(tmp_path: Path, rng: np.random.Generator) -> None:
    corpus = Corpus(tmp_path, rng, counts=(12, 2))
    examination = examine({str(path): split for split, path in corpus.manifests.items()})
    assert to_table(examination).endswith(
        "0 broken, 0\nsuspect\n\nnothing is wrong\n"
    ) or "nothing is wrong" in to_table(examination)
    assert json.loads(to_json(examination))["findings"] == []

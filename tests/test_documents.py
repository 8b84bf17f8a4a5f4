"""What README, docs and recipes say exists: the files they link to, the scripts they name, and figures, not blanks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/README.md")]
)

pytestmark = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def test_no_blank_was_left_to_fill_in(document):
    text = document.read_text(encoding="utf-8")
    assert not re.findall(r"^[A-Z]+$|TODO|\b(?:TABLE|RESULTS|PAIRS)\b", text, re.MULTILINE)


def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


def test_scripts_that_are_named_exist(document):
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"(?:tests/benchmarks|recipes|data_prep|docs)/[\w/]+\.(?:py|md)", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(bench_\w+\.py)`", text):
        assert (ROOT / "tests" / "benchmarks" / name).exists(), name

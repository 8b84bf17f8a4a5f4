"""What README, docs and recipes say exists: the files they link to, the scripts they name, and figures, not blanks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from asr.output.formats import ALIGNMENT_WRITERS
from asr.recognition.many_recordings import FORMATS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/README.md")])
of_each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def links(document: Path) -> list[tuple[str, str]]:
    """Target and anchor of each link."""
    return re.findall(r"\]\(([^)#]*)#?([^)]*)\)", read(document))


def anchors(document: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", read(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_columns(document: Path, *, header: str) -> list[list[str]]:
    """The cells of each row of the table whose header begins so."""
    _, table = re.split(rf"^\| {re.escape(header)} \|.*\n\|[ |-]*\n", read(document), maxsplit=1, flags=re.MULTILINE)
    rows = table.partition("\n\n")[0].splitlines()
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]


@of_each_document
def test_no_blank_was_left_to_fill_in(document: Path) -> None:
    assert not re.findall(r"^[A-Z]+$|TODO|\b(?:TABLE|RESULTS|PAIRS)\b", read(document), re.MULTILINE)


@of_each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in links(document):
        if not target.startswith("https://"):
            path = document.parent / target if target else document
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


@of_each_document
def test_scripts_that_are_named_exist(document: Path) -> None:
    folders = "tests/benchmarks|recipes|data_prep|docs|examples"
    for name in re.findall(rf"(?<!/)(?:{folders})/[\w/]+\.(?:py|md)", read(document)):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\b(bench_\w+\.py)", read(document)):
        assert (ROOT / "tests" / "benchmarks" / name).exists(), name


def test_the_index_has_every_page_recipe_and_example() -> None:
    index = ROOT / "docs" / "index.md"
    targets = {(index.parent / target).resolve() for target, _ in links(index) if not target.startswith("https://")}
    pages = {*DOCUMENTS, *ROOT.glob("examples/*.py")} - {index}
    assert targets == pages


def test_the_table_of_formats_has_every_format() -> None:
    rows = first_columns(ROOT / "docs" / "output.md", header="`--format`")
    assert {name for name, transcripts, *_ in rows if transcripts == "yes"} == set(FORMATS)
    assert {name for name, _, alignments, *_ in rows if alignments == "yes"} == set(ALIGNMENT_WRITERS)


def test_the_rooms_stand_in_the_order_of_their_contract() -> None:
    contract = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"][0]
    rooms = [room for floor in contract["layers"] for room in floor.split(" | ")]
    assert [room for room, *_ in first_columns(ROOT / "CONTRIBUTING.md", header="room")] == rooms


def test_readme_and_benchmarks_have_the_same_figures() -> None:
    rows = first_columns(ROOT / "README.md", header="measurement | figure")
    assert len(rows) == 12
    benchmarks = read(ROOT / "docs" / "benchmarks.md")
    for what, figure, *_ in rows:
        for number in re.findall(r"\d+\.\d+", figure):
            assert number in benchmarks, f"{what}: {number}"

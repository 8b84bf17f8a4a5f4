"""The texts of the English language models, from public collections of books, without the books of test sets."""

from __future__ import annotations

import argparse
import lzma
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.cli.arguments import Parser
from asr.cli.command import noter, run_command, write_result
from asr.corpora.books import Book, distinct, read_collection, read_standard_ebook, read_tei
from asr.corpora.titles import Titles, leave_out, read_titles
from asr.errors import ConfigError
from asr.files.writing import replacing

PROG = "recipes/english_lm/texts.py"
OTHER_TITLES = (
    "Madding",  # Far from the Madding Crowd in the table of the novels
    "The Adventure of the Dancing Men",  # of The Return of Sherlock Holmes
    "The Observations of Henry",  # by an author of novels_test
)

EXAMPLES = """\
Each collection becomes a file of paragraphs in OUTPUT: novels.txt.xz,
eltec.txt.xz, standard_ebooks.txt.xz. Books of LibriSpeech's dev and test sets
and books of earlier collections are left out.

examples:
  python -m recipes.english_lm.texts --chapters CHAPTERS.TXT --output texts \\
      --novels corpora/text/novels.txt.xz corpora/text/README.md \\
      --eltec ELTeC-eng --standard-ebooks standardebooks"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe, with the arguments of the process if None; the exit status."""
    return run_command(PROG, lambda arguments: make_parser().parse(arguments), run, argv)


def make_parser() -> Parser:
    """The command line of the recipe."""
    parser = Parser(
        PROG,
        usage="python -m recipes.english_lm.texts --chapters FILE --output DIR [COLLECTION...]",
        description="Make texts for language models from collections of books.",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add("--chapters", type=Path, required=True, metavar="FILE", help="LibriSpeech's CHAPTERS.TXT")
    add("--output", type=Path, required=True, metavar="DIR", help="the folder of texts")
    add("--novels", type=Path, nargs=2, metavar="FILE", help="a text of many books, and the table of its books")
    add("--eltec", type=Path, metavar="DIR", help="a checkout of COST-ELTeC/ELTeC-eng")
    add("--standard-ebooks", type=Path, metavar="DIR", help="a folder of checkouts of Standard Ebooks")
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the text of each collection that was given."""
    note = noter(args, prog=PROG)
    titles = Titles([*read_titles(args.chapters), *OTHER_TITLES])
    collections: dict[str, Iterable[Book]] = {}
    if args.novels:
        collections["novels"] = read_collection(*args.novels)
    if args.eltec:
        collections["eltec"] = map(read_tei, below(args.eltec, "level1/*.xml", flag="--eltec"))
    if args.standard_ebooks:
        folders = below(args.standard_ebooks, "*/src", flag="--standard-ebooks")
        collections["standard_ebooks"] = (read_standard_ebook(folder.parent) for folder in folders)
    if not collections:
        raise ConfigError("give --novels, --eltec or --standard-ebooks")
    earlier: set[str] = set()
    for name, books in collections.items():
        path = args.output / f"{name}.txt.xz"
        num_books, num_words = write_books(distinct(leave_out(books, titles, note=note), earlier, note=note), path)
        write_result(f"{path.name}: {num_books} books, {num_words} words\n")
    return 0


def below(folder: Path, pattern: str, *, flag: str) -> list[Path]:
    """The sorted paths of a pattern below a folder.

    Raises:
        ConfigError: there is none.
    """
    if not (paths := sorted(folder.glob(pattern))):
        raise ConfigError(f"{flag} must be a folder with {pattern}, but {folder} has none")
    return paths


def write_books(books: Iterable[Book], path: Path) -> tuple[int, int]:
    """Write a paragraph per line, compressed; the numbers of books and words."""
    num_books = num_words = 0
    with replacing(path) as file, lzma.open(file, "wb") as packed:
        for book in books:
            packed.write("".join(f"{paragraph}\n" for paragraph in book.paragraphs).encode())
            num_books += 1
            num_words += book.num_words
    return num_books, num_words


if __name__ == "__main__":
    sys.exit(main())

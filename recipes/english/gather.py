"""Corpora in their publishers' layouts, gathered into a collection as `asr.corpora.english` reads it.

    python -m recipes.english.gather librispeech LibriSpeech/dev-clean collection/librispeech_dev_clean --split test
    python -m recipes.english.gather ljspeech LJSpeech-1.1 collection/ljspeech
    python -m recipes.english.gather arctic cmu_us_slt_arctic collection/arctic_slt
    python -m recipes.english.gather african-storybook asp-audio/en collection/african_storybook --texts asp-source/en

Layouts:
    librispeech         SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac (or .wav), SPEAKER-CHAPTER.trans.txt beside them
                        with `SPEAKER-CHAPTER-NUMBER TRANSCRIPT` a line; https://www.openslr.org/12, CC BY 4.0
    ljspeech            wavs/LJ001-0001.wav, metadata.csv with `LJ001-0001|text|text with numbers as words` a line;
                        https://keithito.com/LJ-Speech-Dataset, public domain; one speaker
    arctic              arctic_a0001.wav, here or in wav/, a speaker a folder; etc/txt.done.data, or --texts FILE, with
                        `( arctic_a0001 "text" )` a line; http://festvox.org/cmu_arctic, free of restrictions
    african-storybook   0001_a-very-tall-man/mp3/02.mp3, README.md with a table of licences and readers; of --texts the
                        file 0001_*.md, in which section n (`##`) is on page n + 1, page 1 being the
                        title; https://github.com/global-asp, CC BY (the stories under CC BY-NC are left out)
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
from tqdm import tqdm

from asr.audio.waveform import read_audio
from asr.cli.arguments import Parser, disable_progress
from asr.cli.command import run_command, say
from asr.errors import ConfigError, DataError
from asr.files.texts import read_text
from asr.files.writing import write_whole

PROG = "recipes.english.gather"
SAMPLE_RATE = 16000
FASTEST, SLOWEST = 30.0, 3.0  # characters a second: beyond these, text and sound don't belong together

_ARCTIC_LINE = re.compile(r'\( (?P<name>\w+) "(?P<text>.*)" \)')
_STORY_LINE = re.compile(r"\[\d+\]\(\S*/(?P<story>\d+_[^)/]+)\) \|.*\| \[(?P<licence>[^]]+)\]\(\S*\) \| (?P<reader>.+)")
_CC_BY = "CC-BY"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A file with one utterance."""

    name: str
    audio: Path
    text: str
    speaker: str

    def __post_init__(self) -> None:
        """Raises: DataError: the name is none for a file in a folder, or the text and speaker are none for a table."""
        _check_name(self.name, self.audio.parent)
        for value in (self.text, self.speaker):
            if re.search(r"[\t\n\r\0]", value):
                raise DataError(f"a text must be one line without tabs or NUL, got {value!r:.60}", path=self.audio)


def librispeech(corpus: Path, texts: Path | None) -> Iterator[Recording]:
    """The recordings of any part of LibriSpeech."""
    for transcript in sorted(corpus.rglob("[!.]*.trans.txt")):
        for line in read_text(transcript).splitlines():
            name, _, text = line.partition(" ")
            _check_name(name, transcript)
            flac = transcript.parent / f"{name}.flac"
            audio = flac if flac.is_file() else flac.with_suffix(".wav")
            yield Recording(name=name, audio=audio, text=text, speaker=f"ls-{name.partition('-')[0]}")


def ljspeech(corpus: Path, texts: Path | None) -> Iterator[Recording]:
    """The recordings that are there, with numbers and abbreviations as they are read."""
    for line in read_text(corpus / "metadata.csv").splitlines():
        if line.count("|") != 2:
            raise DataError(f"must be lines of NAME|TEXT|TEXT, got {line!r}", path=corpus / "metadata.csv")
        name, _, text = line.split("|")
        _check_name(name, corpus / "metadata.csv")
        if (audio := corpus / "wavs" / f"{name}.wav").is_file():
            yield Recording(name=name, audio=audio, text=text, speaker="ljspeech")


def arctic(corpus: Path, texts: Path | None) -> Iterator[Recording]:
    """The recordings of one speaker; the folder's name is the speaker's."""
    prompts = texts or corpus / "etc" / "txt.done.data"
    folder = corpus / "wav" if (corpus / "wav").is_dir() else corpus
    for line in read_text(prompts).splitlines():
        if not (found := _ARCTIC_LINE.match(line)):
            raise DataError(f'must be lines of ( NAME "TEXT" ), got {line!r}', path=prompts)
        _check_name(found["name"], prompts)
        if (audio := folder / f"{found['name']}.wav").is_file():
            yield Recording(name=found["name"], audio=audio, text=found["text"], speaker=f"arctic-{corpus.name}")


def african_storybook(corpus: Path, texts: Path | None) -> Iterator[Recording]:
    """The pages of the stories under CC BY, without the title pages, whose readers add names to the text."""
    if texts is None:
        raise ConfigError("african-storybook needs the folder of the stories' texts, but there is no --texts")
    for line in read_text(corpus / "README.md").splitlines():
        if not (found := _STORY_LINE.match(line)) or found["licence"] != _CC_BY:
            continue
        story = found["story"]
        number_of_story = story.partition("_")[0]
        candidates = sorted(texts.glob(f"{number_of_story}_*.md"))  # a title may be spelled another way
        if len(candidates) != 1:
            raise DataError(f"must hold one text of story {number_of_story}, holds {len(candidates)}", path=texts)
        _, *pages = re.split(r"^##[ \t]*$", "\n".join(read_text(candidates[0]).splitlines()), flags=re.MULTILINE)
        for number, page in enumerate(pages, start=2):
            audio = corpus / story / "mp3" / f"{number:02d}.mp3"
            if page.strip() and not page.lstrip().startswith("* License") and audio.is_file():
                reader = "-".join(found["reader"].lower().split())
                name = f"{number_of_story}-{number:02d}"
                yield Recording(name=name, audio=audio, text=" ".join(page.split()), speaker=f"asp-{reader}")


Layout = Callable[[Path, Path | None], Iterator[Recording]]
LAYOUTS: dict[str, Layout] = {
    "librispeech": librispeech,
    "ljspeech": ljspeech,
    "arctic": arctic,
    "african-storybook": african_storybook,
}


def gather(
    recordings: Sequence[Recording],
    folder: Path,
    *,
    split: str,
    note: Callable[[str], None],
    disable: bool | None = None,
) -> Path:
    """The manifest.tsv of the recordings, written to a folder with a FLAC file of 16 kHz for each.

    Files that are there already are kept; the manifest is written last. What is faster than `FASTEST` or slower than
    `SLOWEST` characters a second is left out, and counted.

    Args:
        recordings: with names that differ.
        folder: made if it is missing.
        split: of all of them: train, dev or test.
        note: called with one sentence about what was left out.
        disable: the progress bar, as tqdm takes it.
    Raises:
        DataError: a file is missing or not audio, or a name comes twice.
    """
    if len(names := {recording.name.casefold() for recording in recordings}) < len(recordings):
        message = f"must hold recordings with names that differ, but {len(recordings)} have {len(names)}"
        raise DataError(message, path=recordings[0].audio.parent)
    lines = ["path\ttranscript\tspeaker\tseconds\tsplit\n"]
    left_out = []
    for recording in tqdm(recordings, desc=folder.name, unit="file", disable=disable):
        path = folder / f"{recording.name}.flac"
        if not path.is_file():
            content = io.BytesIO()
            waveform = read_audio(recording.audio, sample_rate=SAMPLE_RATE)
            soundfile.write(content, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            write_whole(path, content.getvalue())
        seconds = soundfile.info(path).duration
        if not SLOWEST * seconds <= len(recording.text) <= FASTEST * seconds:
            left_out.append(recording.name)
            continue
        lines.append(f"{path.name}\t{recording.text}\t{recording.speaker}\t{seconds:.2f}\t{split}\n")
    if left_out:
        some = ", ".join(left_out[:5]) + ", …" * (len(left_out) > 5)
        note(f"{len(left_out)} of {len(recordings)} left out, too fast or too slow for their texts: {some}")
    write_whole(folder / "manifest.tsv", "".join(lines))
    return folder / "manifest.tsv"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of the command with these arguments, those of the process if None."""
    return run_command(PROG, lambda given: make_parser().parse(given), run, argv)


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        PROG,
        usage="python -m recipes.english.gather LAYOUT CORPUS FOLDER [--split SPLIT] [--texts PATH] [--without NAME]",
        description="Gather a corpus in its publisher's layout into a collection.",
        examples="\n".join((__doc__ or "").splitlines()[2:]),
    )
    parser.add_argument("layout", choices=LAYOUTS, metavar="LAYOUT", help=", ".join(LAYOUTS))
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="the folder as it was published")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="COLLECTION/NAME, to write to")
    parser.add_argument("--split", choices=("train", "dev", "test"), default="train", help="default: train")
    parser.add_argument("--texts", type=Path, metavar="PATH", help="where the layout keeps its texts apart")
    parser.add_argument(
        "--without", type=Path, nargs="+", default=[], metavar="CORPUS", help="leave out what these corpora hold"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Gathers one corpus."""
    elsewhere = {path.stem for corpus in args.without for path in corpus.rglob("*") if path.is_file()}
    found = list(LAYOUTS[args.layout](args.corpus, args.texts))
    recordings = [recording for recording in found if recording.name not in elsewhere]
    if not recordings:
        raise DataError(f"must hold recordings in the layout {args.layout}, but there are none", path=args.corpus)

    def note(sentence: str) -> None:
        if not args.quiet:
            say(sentence, prog=PROG)

    if len(recordings) < len(found):
        note(f"{len(found) - len(recordings)} of {len(found)} left out, other corpora hold them")
    gather(recordings, args.folder, split=args.split, note=note, disable=disable_progress(args))
    return 0


def _check_name(name: str, path: Path) -> None:
    """Raises: DataError: a name would lead out of the folder, or no file can have it."""
    if not re.fullmatch(r"\w[\w.-]{0,199}", name):
        rule = "a recording must be named by at most 200 letters, digits, underscores, dots and dashes"
        raise DataError(f"{rule}, got {name!r:.60}", path=path)


if __name__ == "__main__":
    sys.exit(main())

"""Gather corpora in their publishers' layouts into a collection for `asr.corpora.english`.

    python -m recipes.english.gather librispeech LibriSpeech/dev-clean collection/librispeech_dev_clean --split test
    python -m recipes.english.gather ljspeech LJSpeech-1.1 collection/ljspeech
    python -m recipes.english.gather arctic cmu_us_slt_arctic collection/arctic_slt
    python -m recipes.english.gather rhasspy dataset-voice-kathleen collection/kathleen_more \\
        --without collection/rhasspy_kathleen
    python -m recipes.english.gather african-storybook asp-audio/en collection/african_storybook --texts asp-source/en

Layouts:
    librispeech         SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac (or .wav), and SPEAKER-CHAPTER.trans.txt with lines
                        of `SPEAKER-CHAPTER-NUMBER TRANSCRIPT`; https://www.openslr.org/12, CC BY 4.0
    ljspeech            wavs/LJ001-0001.wav, metadata.csv with lines of `LJ001-0001|text|text with numbers as words`;
                        https://keithito.com/LJ-Speech-Dataset, public domain; one speaker
    arctic              arctic_a0001.wav, here or in wav/, one folder per speaker; etc/txt.done.data, or --texts FILE,
                        with lines of `( arctic_a0001 "text" )`; http://festvox.org/cmu_arctic, free of restrictions
    rhasspy             data/NAME.wav, each with its text in data/NAME.txt; the speaker is the folder's name after
                        `dataset-voice-`; https://github.com/rhasspy/dataset-voice-kathleen, CC0
    african-storybook   0001_a-very-tall-man/mp3/02.mp3, README.md with a table of licences and readers; in the folder
                        --texts the file 0001_*.md, whose section n (`##`) is page n + 1, after the title page;
                        https://github.com/global-asp, CC BY (stories under CC BY-NC are left out)
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
FASTEST, SLOWEST = 30.0, 3.0  # characters per second; outside this range, text and sound do not match

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
        """Raises: DataError: the name cannot be that of a file, or text or speaker cannot be in a table."""
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
    """The existing recordings, with numbers and abbreviations as spoken."""
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
        if not (match := _ARCTIC_LINE.match(line)):
            raise DataError(f'must be lines of ( NAME "TEXT" ), got {line!r}', path=prompts)
        _check_name(match["name"], prompts)
        if (audio := folder / f"{match['name']}.wav").is_file():
            yield Recording(name=match["name"], audio=audio, text=match["text"], speaker=f"arctic-{corpus.name}")


def rhasspy(corpus: Path, texts: Path | None) -> Iterator[Recording]:
    """The recordings of one speaker; those with the same text are different readings."""
    speaker = corpus.resolve().name.removeprefix("dataset-voice-")
    for text in sorted((corpus / "data").glob("[!.]*.txt")):
        words = " ".join(read_text(text).split())
        yield Recording(name=text.stem, audio=text.with_suffix(".wav"), text=words, speaker=speaker)


def african_storybook(corpus: Path, texts: Path | None) -> Iterator[Recording]:
    """The pages of the stories under CC BY, without title pages, to whose text readers add names."""
    if texts is None:
        raise ConfigError("african-storybook needs the folder of the stories' texts, but there is no --texts")
    for line in read_text(corpus / "README.md").splitlines():
        if not (match := _STORY_LINE.match(line)) or match["licence"] != _CC_BY:
            continue
        story = match["story"]
        number_of_story = story.partition("_")[0]
        candidates = sorted(texts.glob(f"{number_of_story}_*.md"))  # titles are not always spelled the same
        if len(candidates) != 1:
            raise DataError(f"must hold one text of story {number_of_story}, but holds {len(candidates)}", path=texts)
        _, *pages = re.split(r"^##[ \t]*$", "\n".join(read_text(candidates[0]).splitlines()), flags=re.MULTILINE)
        for number, page in enumerate(pages, start=2):
            audio = corpus / story / "mp3" / f"{number:02d}.mp3"
            if page.strip() and not page.lstrip().startswith("* License") and audio.is_file():
                reader = "-".join(match["reader"].lower().split())
                name = f"{number_of_story}-{number:02d}"
                yield Recording(name=name, audio=audio, text=" ".join(page.split()), speaker=f"asp-{reader}")


Layout = Callable[[Path, Path | None], Iterator[Recording]]
LAYOUTS: dict[str, Layout] = {
    "librispeech": librispeech,
    "ljspeech": ljspeech,
    "arctic": arctic,
    "rhasspy": rhasspy,
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
    """Write FLAC files of 16 kHz and then the manifest.tsv of recordings; the path of the manifest.

    Existing files are not written again. Recordings faster than `FASTEST` or slower than `SLOWEST` characters per
    second are left out and counted.

    Args:
        recordings: with different names.
        folder: made if it is missing.
        split: of all recordings: train, dev or test.
        note: called with one sentence about the recordings left out.
        disable: the progress bar, as in tqdm.
    Raises:
        DataError: a file is missing or not audio, or a name is used twice.
    """
    if len(names := {recording.name.casefold() for recording in recordings}) < len(recordings):
        message = f"must hold recordings with different names, but {len(recordings)} have {len(names)}"
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
    """Run the command, with the arguments of the process if None; the exit status."""
    return run_command(PROG, lambda arguments: make_parser().parse(arguments), run, argv)


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        PROG,
        usage="python -m recipes.english.gather LAYOUT CORPUS FOLDER [OPTION...]",
        description="Gather a corpus in its publisher's layout into a collection.",
        examples="\n".join((__doc__ or "").splitlines()[2:]),
    )
    parser.add_argument("layout", choices=LAYOUTS, metavar="LAYOUT", help=", ".join(LAYOUTS))
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="the folder as published")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write to, COLLECTION/NAME")
    parser.add_argument("--split", choices=("train", "dev", "test"), default="train", help="default: train")
    parser.add_argument("--texts", type=Path, metavar="PATH", help="texts, if the layout has them elsewhere")
    parser.add_argument(
        "--without", type=Path, nargs="+", default=[], metavar="FOLDER", help="leave out recordings of these corpora"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Gather one corpus."""
    for corpus in args.without:
        if not corpus.is_dir():
            raise ConfigError(f"--without must be the folder of a corpus, but {corpus} is none")
    elsewhere = {path.stem for corpus in args.without for path in corpus.rglob("*") if path.is_file()}
    all_recordings = list(LAYOUTS[args.layout](args.corpus, args.texts))
    recordings = [recording for recording in all_recordings if recording.name not in elsewhere]
    if not recordings:
        raise DataError(f"must hold recordings in the layout {args.layout}, but there are none", path=args.corpus)

    def note(sentence: str) -> None:
        if not args.quiet:
            say(sentence, prog=PROG)

    if len(recordings) < len(all_recordings):
        note(f"{len(all_recordings) - len(recordings)} of {len(all_recordings)} left out: they are in other corpora")
    gather(recordings, args.folder, split=args.split, note=note, disable=disable_progress(args))
    return 0


def _check_name(name: str, path: Path) -> None:
    """Raises: DataError: a name leads out of the folder, or cannot be that of a file."""
    if not re.fullmatch(r"\w[\w.-]{0,199}", name):
        rule = "a recording must be named by at most 200 letters, digits, underscores, dots and dashes"
        raise DataError(f"{rule}, got {name!r:.60}", path=path)


if __name__ == "__main__":
    sys.exit(main())

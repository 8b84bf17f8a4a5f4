"""The error of word times against the alignments of others, and what each step of the estimate gives.

    python tests/benchmarks/bench_alignment.py sample_data_libriSpeech --readers 5652 8226

DIR has `audio/READER/CHAPTER/` with LibriSpeech's flac or wav files and their .trans.txt, and
`alignment/READER/CHAPTER/*.TextGrid` with a tier "words", in steps of 10 ms, as
https://github.com/Jenny-Smolensky/LibriSpeechFilesParser has for four readers (CC BY 4.0). These readers are in the
training data of the embedded model `english`. The share and margins in `asr.recognition.word_times` were chosen on 4088
and 4406.

For starts and ends, of the words with one word in the other alignment: the median of the signed error, and the median,
the 90 % quantile and the mean of the absolute error, in milliseconds.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from timing import machine

import asr
from asr.recognition.aligner import align_recording

_INTERVAL = re.compile(r'xmin = ([\d.]+)\s+xmax = ([\d.]+)\s+text = "([^"]*)"')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--readers", nargs="*", help="only these (default: all)")
    parser.add_argument("--most", type=int, help="at most this many utterances of a reader")
    parser.add_argument("--model", help="as for asr-align")
    args = parser.parse_args()
    print(machine("torch"))
    recognizer = asr.load(args.model, device="cpu", precision="float32", decoding={"beam_width": 1})
    rows: list[tuple[float, ...]] = []
    num_skipped = 0
    for audio, text, theirs in utterances(args.folder, args.readers, args.most):
        words = align_recording(recognizer, audio, text).words
        if [word.text.lower() for word in words] != [name.lower() for _, _, name in theirs]:
            num_skipped += 1
            continue
        for word, (start, end, _) in zip(words, theirs, strict=True):
            seconds = word.timeline.seconds
            rows.append(
                (seconds(word.start_frame) - start, seconds(word.end_frame) - end, word.start - start, word.end - end)
            )
    print(f"{len(rows)} words; {num_skipped} utterances with other words were left out")
    names = ("start of the labels", "end of the labels", "start", "end")
    for name, errors in zip(names, 1000 * np.array(rows).T, strict=True):
        sizes = np.abs(errors)
        print(
            f"{name:20} bias {np.median(errors):+5.0f}, median {np.median(sizes):3.0f}, "
            f"90 % {np.percentile(sizes, 90):4.0f}, mean {sizes.mean():3.0f} ms"
        )


def utterances(
    folder: Path, readers: list[str] | None, most: int | None
) -> Iterator[tuple[Path, str, list[tuple[float, float, str]]]]:
    """Sound, text, and the words of the other alignment with their times."""
    counts: dict[str, int] = {}
    for grid in sorted((folder / "alignment").glob("*/*/*.TextGrid")):
        reader, chapter = grid.parts[-3:-1]
        place = folder / "audio" / reader / chapter
        sounds = [path for suffix in (".flac", ".wav") if (path := place / f"{grid.stem}{suffix}").exists()]
        if (readers and reader not in readers) or not sounds or counts.get(reader) == most is not None:
            continue
        counts[reader] = counts.get(reader, 0) + 1
        lines = "".join(path.read_text() for path in place.glob("*.trans.txt")).splitlines()
        texts = dict(line.split(" ", 1) for line in lines)
        tier = grid.read_text().partition('name = "words"')[2].partition("item [")[0]
        theirs = [(float(start), float(end), word) for start, end, word in _INTERVAL.findall(tier) if word.strip()]
        yield sounds[0], texts[grid.stem], theirs


if __name__ == "__main__":
    main()

"""How many hotwords are found, at what price: lists of four lengths, five weights.

    python tests/benchmarks/bench_hotwords.py MANIFEST --limit 120

The log-probabilities of the model are computed once; `--log-probs FILE.npz` keeps them for the next run. The rare words
of the texts are those outside the 5,000 likeliest words of the model's language model (Le et al. 2021, "Contextualized
streaming end-to-end speech recognition with trie-based deep biasing and shallow fusion", section 4, make their lists in
the same way). A list of N hotwords has the N rare words that are said most often; if there are fewer, other rare words
of the language model, which nobody says, fill it. The search is the model's, with its language model and without
rescoring. For each list and weight:

found     listed words in the texts that were recognised, of all that were said
alarms    listed words in the result where something else was said, per hour of sound
others    errors in all other words: substitutions, deletions, and insertions of words that are not listed, per word
WER       of all words
time      the time of the search, beside the time without hotwords, on one thread, of this process alone

The last lines are the seconds to read files of hotwords, among them one in which no entry can be spelled but one.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from timing import machine

import asr
from asr.data.manifest import Utterance, read_manifest
from asr.lm.ngram import NgramModel
from asr.text.metrics import align_tokens
from asr.text.normalization import normalize

SIZES, WEIGHTS = (10, 100, 1000, 10_000), (1.0, 3.0, 6.0, 9.0, 12.0)
COMMON = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="utterances, .jsonl or .jsonl.gz")
    parser.add_argument("--limit", type=int, metavar="N", help="use N utterances, evenly from all speakers")
    parser.add_argument("--model", default="english", help="name or folder (default: english)")
    parser.add_argument("--beam-width", type=int, default=100, metavar="N", help="of the search (default: 100)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="lengths of the lists")
    parser.add_argument("--log-probs", type=Path, metavar="FILE", help="store the log-probabilities here, or read them")
    args = parser.parse_args()

    print(machine("torch", "numba", "numpy"))
    recognizer = asr.load(args.model, device="cpu", precision="float32")
    options = recognizer.decoder.options.changed({"beam_width": args.beam_width, "rescore_lm": None, "source_lm": None})
    utterances = in_turns(read_manifest(args.manifest))[: args.limit]
    references = [normalize(item.text, recognizer.model.config.text).split() for item in utterances]
    emissions = log_probs(recognizer, utterances, args.log_probs)
    hours = sum(map(len, emissions)) * recognizer.model.frame_seconds / 3600
    listed = rare_words(NgramModel.read(options.language.lm), references)
    num_said = sum(word in set(listed) for words in references for word in words)
    print(
        f"{len(utterances)} utterances, {60 * hours:.1f} minutes, {sum(map(len, references))} words, "
        f"{num_said} of them rare; a beam of {args.beam_width}"
    )

    plain, usual_seconds = decode(recognizer.model.alphabet, options, emissions)
    for size in args.sizes:
        hotwords = listed[:size]
        for weight in (0.0, *WEIGHTS):
            texts, seconds = plain, usual_seconds
            if weight:
                entries = tuple(f"{word}:{weight:g}" for word in hotwords)
                texts, seconds = decode(recognizer.model.alphabet, options.changed({"hotwords": entries}), emissions)
            figures = measure(references, texts, set(hotwords), hours)
            print(f"{size:>6} hotwords, {weight:>4g} nats: {figures}, time {seconds / usual_seconds:.2f}", flush=True)
    for size in args.sizes:
        report_reading(recognizer.model.alphabet, listed[:size])


def in_turns(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The first utterance of each speaker, then the second of each, and so on."""
    counts: Counter[str | None] = Counter()
    turns = []
    for utterance in utterances:
        turns.append((counts[utterance.speaker], str(utterance.speaker)))
        counts[utterance.speaker] += 1
    return [utterances[number] for number in sorted(range(len(utterances)), key=turns.__getitem__)]


def log_probs(recognizer: asr.Recognizer, utterances: Sequence[Utterance], path: Path | None) -> list[np.ndarray]:
    """The log-probabilities of each utterance, from the file or the model."""
    known = dict(np.load(path)) if path and path.exists() else {}
    found = {item.id: known[item.id] if item.id in known else recognizer.log_probs(item.audio) for item in utterances}
    if path:
        np.savez(path, **{**known, **found})
    return [found[item.id] for item in utterances]


def rare_words(model: NgramModel, references: Sequence[Sequence[str]]) -> list[str]:
    """Rare words of the texts, the most frequent ones first, and then rare words that nobody says, shuffled."""
    ranked = sorted(
        (word for word in model.words if word.isalpha()), key=dict(zip(model.words, unigrams(model), strict=True)).get
    )
    common = {word.casefold() for word in ranked[-COMMON:]}
    counts = Counter(word for words in references for word in words)
    said = [word for word, _ in counts.most_common() if word.casefold() not in common]
    others = [word for word in ranked[:-COMMON] if len(word) > 2 and word not in counts]
    random.Random(0).shuffle(others)
    return [*said, *others]


def unigrams(model: NgramModel) -> np.ndarray:
    """(words,) log-probability of each word without context."""
    scores = np.full(len(model.words), -np.inf)
    level = slice(*model.tables.first_children[:2])
    scores[model.tables.words[level]] = model.tables.log_probs[level]
    return scores


def decode(
    alphabet: asr.Alphabet, options: asr.DecodingOptions, emissions: Sequence[np.ndarray]
) -> tuple[list[list[str]], float]:
    """The words of each emission, and the seconds of this thread for all."""
    decoder = asr.Decoder(alphabet, options)
    decoder.decode(emissions[0])
    start = time.thread_time()
    texts = [decoder.decode(emission).text.split() for emission in emissions]
    return texts, time.thread_time() - start


def measure(
    references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]], listed: set[str], hours: float
) -> str:
    """One line of figures; see above."""
    said = found = alarms = others = errors = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        for operation, expected, recognized in align_tokens(reference, hypothesis):
            wrong = operation != "match"
            errors += wrong
            said += expected in listed
            found += expected in listed and not wrong
            alarms += wrong and recognized in listed
            others += wrong and expected not in listed and (expected is not None or recognized not in listed)
    num_words = sum(map(len, references))
    return (
        f"found {found} of {said} ({100 * found / max(said, 1):.0f} %), alarms {alarms / hours:.1f} an hour, "
        f"others {100 * others / (num_words - said):.2f} %, WER {100 * errors / num_words:.2f} %"
    )


def report_reading(alphabet: asr.Alphabet, words: Sequence[str]) -> None:
    """Print the seconds to make a search with a file of hotwords, and with a file of entries that cannot be spelled."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, entries in (
            ("hotwords", words),
            ("without a spelling, but one", [words[0], *(f"{w}7" for w in words)]),
        ):
            path = Path(folder) / "hotwords.txt"
            path.write_text("\n".join(entries) + "\n", encoding="utf-8")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                start = time.thread_time()
                asr.Decoder(alphabet, asr.DecodingOptions.of(beam_width=16, hotwords=(f"@{path}",)))
                seconds = time.thread_time() - start
            named = sum(repr(entry) in str(warning.message) for warning in caught for entry in entries)
            print(
                f"read   {len(entries):>6} {kind}: {seconds:.2f} s; {len(caught)} warnings, which name {named} entries"
            )


if __name__ == "__main__":
    main()

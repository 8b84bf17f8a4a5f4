"""General English, from openly licensed collections to a trained model and its error rates, corpus by corpus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asr.acoustic_model import AcousticModel
from asr.augment import AugmentOptions
from asr.cli.arguments import Parser, at_least, show_progress
from asr.cli.command import INTERRUPTED, noter, run_command, say, write_result
from asr.cli.evaluate import table
from asr.cli.train import add_processes, set_threads
from asr.data.manifest import read_manifest
from asr.encoder import EncoderOptions
from asr.evaluation import Evaluation, evaluate
from asr.recognizer import load
from asr.text import normalize
from asr.training.config import AuxiliaryOptions, DataOptions, LoopOptions, TrainingConfig
from asr.training.loop import Interrupted
from asr.training.run import train_acoustic_model
from data_prep import an4, english
from data_prep.lm_text import write_lm_text
from data_prep.overlap import Withheld

PROG = "recipes/english/run.py"
DESCRIPTION = "everyday English, read aloud or dictated, from many kinds of microphones; names and numbers as words"
EXAMPLES = """\
Ctrl-C, or any kill, loses nothing but the last minutes: the same command goes
on. Manifests and audio go to OUTPUT/data, the run to OUTPUT/seed-N, the model,
in half precision and with its error rates, to OUTPUT/seed-N/english. README.md
beside this file says where the collections come from.

examples:
  python recipes/english/run.py --source corpora/english --noise corpora/noise \\
      --cmudict corpora/text/cmudict.txt.xz --nproc 2 --threads 1
  python recipes/english/run.py --source corpora/english corpora/more \\
      --text corpora/text/novels.txt.xz ...  also writes OUTPUT/data/lm.txt
"""

LICENCES = {
    "librispeech": "LibriSpeech, V. Panayotov, G. Chen, D. Povey, S. Khudanpur, https://www.openslr.org/12, CC BY 4.0",
    "common_voice": "Mozilla Common Voice, https://commonvoice.mozilla.org, CC0 1.0",
    "speechocean762": "speechocean762, J. Zhang et al., https://www.openslr.org/101, CC BY 4.0",
    "rhasspy_kathleen": "Rhasspy, https://github.com/rhasspy/dataset-voice-kathleen, CC0 1.0",
    "ljspeech": "LJSpeech, K. Ito, https://keithito.com/LJ-Speech-Dataset, public domain",
    "arctic": "CMU ARCTIC, J. Kominek and A. Black, http://festvox.org/cmu_arctic, free of restrictions",
    "african_storybook": "African Storybook, https://github.com/global-asp, authors and readers in its README, CC BY",
    "kokoro": "synthetic speech of Kokoro-82M, hexgrad, https://huggingface.co/hexgrad/Kokoro-82M, Apache 2.0",
    "an4": "CMU AN4, http://www.speech.cs.cmu.edu/databases/an4/, CMU's BSD-style terms",
}


def configuration(manifests: Mapping[str, Path], noise: Path, *, seed: int, epochs: int) -> TrainingConfig:
    """The choices of this recipe, made on dev; README.md beside this file says what each gave."""
    return TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]), str(manifests["an4-train"])),
            dev=(str(manifests["dev"]),),
            batch_seconds=96.0,
            max_seconds=20.0,
            join_probability=0.1,
            noise=str(noise / "background"),
            impulse_responses=str(noise / "rir"),
        ),
        augment=AugmentOptions(
            speeds=(0.9, 0.95, 1.0, 1.05, 1.1),
            reverb_probability=0.15,
            noise_probability=0.3,
            noise_snr_db=(5.0, 25.0),
            telephone_probability=0.1,
            mp3_probability=0.05,
            pause_seconds=0.5,
            background_probability=0.02,
            time_mask_max_frames=40,
            frequency_mask_max_bins=27,
        ),
        encoder=EncoderOptions(num_layers=5, hidden_size=256, time_strides=(2, 2), pool_after_layer=0, dropout=0.25),
        auxiliary=AuxiliaryOptions(lexicon=str(manifests["lexicon"]), layer=3, weight=0.4),
        loop=LoopOptions(epochs=epochs, seed=seed, warmup_epochs=1.0),
        name="english",
        description=DESCRIPTION,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of the recipe with these arguments, those of the process if None."""
    return run_command(PROG, lambda given: make_parser().parse(given), run, argv)


def make_parser() -> Parser:
    """The command line of the recipe."""
    parser = Parser(
        PROG,
        usage="python recipes/english/run.py --source DIR... --noise DIR --cmudict FILE [OPTION...]",
        description="Train a model of general English and measure it on every dev and test set.",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add("--source", type=Path, nargs="+", required=True, metavar="DIR", help="collections (data_prep/english.py)")
    add("--noise", type=Path, required=True, metavar="DIR", help="background/ with noises, rir/ with rooms")
    add("--cmudict", type=Path, required=True, metavar="FILE", help="CMU's pronouncing dictionary, plain or .xz")
    add("--an4", type=Path, metavar="PATH", help="the AN4 corpus or its archive (default: download it)")
    add("--text", type=Path, nargs="+", default=[], metavar="FILE", help="to make OUTPUT/data/lm.txt of")
    add("--output", type=Path, default=Path("runs/english"), metavar="DIR", help="default: runs/english")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of everything random (default: 0)")
    add("--epochs", type=at_least(2), default=40, metavar="N", help="default: 40")
    add_processes(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """The stages, one after the other; each finds what an earlier call has done."""

    note = noter(args, prog=PROG)
    set_threads(args)
    folder = args.output / f"seed-{args.seed}"
    progress = show_progress(args)
    manifests = prepare(args, note=note, progress=progress)
    try:
        train_acoustic_model(
            configuration(manifests, args.noise, seed=args.seed, epochs=args.epochs),
            folder,
            device=args.device,
            note=note,
            progress=progress,
            processes=args.nproc,
        )
    except Interrupted as interrupted:
        say(interrupted, prog=PROG)
        return INTERRUPTED
    model = AcousticModel.load(folder / "model")
    model.save(folder / "english", half=True)
    recognizer = load(folder / "english", device=args.device)
    evaluations: dict[str, Evaluation] = {}
    for name in measured(manifests):
        evaluations[name] = evaluate(recognizer, read_manifest(manifests[name]))
        lines = table(evaluations[name], model=str(folder / "english"), manifest=str(manifests[name]))
        write_result("\n".join([*lines, "", ""]))
    trained = {name: value for name, value in model.config.provenance.items() if name != "dev"}  # said in more detail
    model.config = replace(model.config, provenance={**trained, **provenance(manifests, evaluations)})
    model.save(folder / "english", half=True)
    return 0


def prepare(args: argparse.Namespace, *, note: Callable[[str], None], progress: bool | None) -> dict[str, Path]:
    """All manifests by name, AN4's as "an4-train", "an4-dev" and "an4-test", and the lexicon; and the text for LMs."""
    data = args.output / "data"
    digits = an4.prepare(source=args.an4, output=data / "an4", progress=progress)
    manifests = english.prepare(
        sources=args.source, cmudict=args.cmudict, output=data, note=note, progress=progress
    ) | {f"an4-{split}": digits[split] for split in ("train", "dev", "test")}
    text = data / "lm.txt"
    if args.text and not text.is_file():
        # AN4's are commands and letters, which everyday text may well have.
        names = [name for name in measured(manifests) if not name.startswith("an4-")]
        tested = (utterance.text for name in names for utterance in read_manifest(manifests[name]))
        write_lm_text(
            args.text,
            text,
            withheld=Withheld(normalize(sentence, english.TEXT) for sentence in tested),
            options=english.TEXT,
            characters=english.LETTERS,
            note=note,
        )
    return manifests


def measured(manifests: Mapping[str, Path]) -> list[str]:
    """The names of the dev and test sets of single corpora."""
    return [name for name in manifests if name.endswith(("-dev", "-test"))]


def provenance(manifests: Mapping[str, Path], evaluations: Mapping[str, Evaluation]) -> dict[str, object]:
    """What the model folder says of its data, their licences, and its error rates."""
    corpora = {utterance.id.partition("/")[0] for utterance in read_manifest(manifests["train"])} | {"an4"}
    known = {
        corpus: credit for corpus in sorted(corpora) for start, credit in LICENCES.items() if corpus.startswith(start)
    }
    figures = {name: evaluation.to_json() for name, evaluation in evaluations.items()}
    return {
        "corpora": {corpus: known.get(corpus, "licence not known to the recipe") for corpus in sorted(corpora)},
        "results": {name: {"wer": values["wer"], "cer": values["cer"]} for name, values in figures.items()},
    }


if __name__ == "__main__":
    sys.exit(main())

"""Shared by all recipes: the command line and the stages. A recipe adds its data and its choices.

prepare ─▶ train ─▶ pack ─▶ measure ─▶ store the error rates in the model folder
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from asr.acoustic.config import read_config, write_config
from asr.acoustic.folder import find_model
from asr.acoustic.model import AcousticModel
from asr.cli.arguments import Parser, at_least, show_progress
from asr.cli.command import INTERRUPTED, noter, run_command, say, set_threads, write_result
from asr.cli.evaluate import table
from asr.cli.train import add_processes, add_workers
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.decoding.options import DecodingOptions
from asr.evaluation.error_rates import Evaluation, evaluate
from asr.evaluation.tuning import store_decoding, tune_decoding
from asr.files.model_folder import Stored
from asr.files.writing import write_whole
from asr.recognition.recognizer import load
from asr.text.metrics import ErrorCounts
from asr.text.normalization import normalize
from asr.training.acoustic import train_acoustic_model
from asr.training.config import AuxiliaryOptions, TrainingConfig
from asr.training.loop import Interrupted

GREEDY = DecodingOptions()
SMOKE = {"train": 48, "other": 8}  # utterances of a smoke test
TUNED_ON = 300  # most utterances of each set for tuning the weights of decoding

_USUAL = """\
After Ctrl-C or any kill, the same command resumes; only the last minutes are
lost. Manifests are written to OUTPUT/data, the run to OUTPUT/seed-N, and the
model, packed in {stored} and with its error rates, to OUTPUT/seed-N/{name}.

examples:
{examples}"""

Note = Callable[[str], None]


class Prepare(Protocol):
    """Make the manifests of a recipe in a folder; their paths by name."""

    def __call__(
        self, args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None
    ) -> Mapping[str, Path]: ...


class Decoding(Protocol):
    """Options of beam searches by name, after making the files that they need."""

    def __call__(
        self,
        args: argparse.Namespace,
        manifests: Mapping[str, Path],
        model: Path,
        *,
        note: Note,
        progress: bool | None,
    ) -> Mapping[str, DecodingOptions]: ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe.

    Args:
        name: of the folder in recipes/, and of the model.
        about: its description, in a sentence.
        examples: for --help, one command per line.
        corpus, licence: for the model's provenance.
        epochs: default number of passes over the training data; None: `configure` chooses if args.epochs is None.
        prepare: manifests by name.
        configure: the training configuration, from the manifests and the command line.
        stored: format of the packed model's weights.
        measured: names or glob patterns of the manifests to measure; missing ones are skipped.
        tuned_on: names of the manifests for tuning the weights of decoding, `TUNED_ON` utterances of each; missing
            ones are skipped, and if all are, dev is used.
        decoding: beam searches to measure besides greedy decoding; their weights are tuned, and the options of the
            last one are stored in the model folder.
        credits: maker and licence of each corpus and text, if there are several.
        usage: the most important flags, for --help.
        source: the help of --source.
        several_sources: whether --source takes several paths and is required.
        add_flags: adds the recipe's own flags.
    """

    name: str
    about: str
    examples: str
    corpus: str
    licence: str
    epochs: int | None
    prepare: Prepare
    configure: Callable[[Mapping[str, Path], argparse.Namespace], TrainingConfig]
    stored: Stored = "float16"
    measured: tuple[str, ...] = ("dev*", "test*")
    tuned_on: tuple[str, ...] = ("dev",)
    decoding: Decoding | None = None
    credits: Callable[[argparse.Namespace, Mapping[str, Path]], Mapping[str, str]] = lambda args, manifests: {}
    usage: str = "[--source PATH]"
    source: str = "the corpus as published (default: download it)"
    several_sources: bool = False
    add_flags: Callable[[Parser], None] = lambda parser: None

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the recipe, with the arguments of the process if None; the exit status."""
        return run_command(self._prog, lambda given: self.make_parser().parse(given), self.run, argv)

    def make_parser(self) -> Parser:
        """The command line of the recipe."""
        parser = Parser(
            self._prog,
            usage=f"python {self._prog} {self.usage} [--output DIR] [OPTION...]",
            description=self.about,
            examples=_USUAL.format(name=self.name, stored=self.stored, examples=self.examples),
        )
        output = Path("runs") / self.name
        add = parser.add_argument
        several: dict[str, Any] = {"nargs": "+", "required": True} if self.several_sources else {}
        add("--source", type=Path, metavar="PATH", help=self.source, **several)
        add("--output", type=Path, default=output, metavar="DIR", help=f"default: {output}")
        add("--seed", type=at_least(0), default=0, metavar="N", help="seed of all random numbers (default: 0)")
        epochs = self.epochs or "see the recipe's README"
        add("--epochs", type=at_least(2), default=self.epochs, metavar="N", help=f"default: {epochs}")
        add(
            "--batch-seconds",
            type=at_least(1),
            metavar="N",
            help="seconds of sound per batch (default: the recipe's)",
        )
        add(
            "--smoke",
            action="store_true",
            help="test that all stages run, in a minute: a tiny model, two epochs, a few utterances",
        )
        self.add_flags(parser)
        add_processes(parser)
        add_workers(parser)
        return parser

    def run(self, args: argparse.Namespace) -> int:
        """Run the stages in order; each resumes the work of an earlier call."""
        try:
            self._run(args, note=noter(args, prog=self._prog), progress=show_progress(args))
        except Interrupted as interrupted:
            say(interrupted, prog=self._prog)
            return INTERRUPTED
        return 0

    def _run(self, args: argparse.Namespace, *, note: Note, progress: bool | None) -> None:
        set_threads(args)
        data, folder = args.output / "data", args.output / f"seed-{args.seed}"
        manifests = dict(self.prepare(args, data, note=note, progress=progress))
        if args.smoke:
            folder = args.output / "smoke"
            manifests = {
                name: some_utterances(
                    path,
                    folder / f"{name}.jsonl.gz",
                    count=SMOKE["train" if re.search("(^|-)train", name) else "other"],
                )
                for name, path in manifests.items()
            }
        config = self.configure(manifests, args)
        if args.batch_seconds:
            config = replace(config, data=replace(config.data, batch_seconds=args.batch_seconds))
        tuned_on = [name for name in self.tuned_on if name in manifests] or ["dev"]
        patterns = (*self.measured, *tuned_on) if self.decoding else self.measured
        measured = {
            name: path for name, path in manifests.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
        }
        evaluations: dict[str, Evaluation] = {}
        if config.init:  # before training, so that no choice made since can change it
            start = find_model(config.init)
            start_ways = ways_of(start)
            for way, options in start_ways.items():
                evaluations |= measure(start, measured, device=args.device, way=f"{way}, before", decoding=options)
        how: dict[str, Any] = {"device": args.device, "processes": args.nproc, "workers": args.workers}
        fitted = smaller(config) if args.smoke else config
        train_acoustic_model(fitted, folder, note=note, progress=progress, **how)
        trained = folder / "model"
        model = folder / self.name
        AcousticModel.load(trained).save(model, stored=self.stored, files_from=trained)
        kept_ways = ways_of(model)
        for way, options in kept_ways.items():
            evaluations |= measure(model, measured, device=args.device, way=way, decoding=options)
        if config.init:
            for sentence in compared(evaluations, measured, before=[*start_ways][-1], after=[*kept_ways][-1]):
                note(sentence)
        ways = self.decoding(args, manifests, model, note=note, progress=progress) if self.decoding else {}
        for name, options in ways.items():
            recognizer = load(model, device=args.device, decoding=options)
            utterances = [utterance for on in tuned_on for utterance in some(read_manifest(manifests[on]), TUNED_ON)]
            options = tune_decoding(recognizer, utterances)
            results = measure(model, measured, device=args.device, way=f", {name}", decoding=options)
            errors = sum((results[f"{on}, {name}"].wer.counts for on in tuned_on), start=ErrorCounts())
            store_decoding(model, options, tuned_on=", ".join(tuned_on), word_error_rate=errors.rate)
            evaluations |= results
        self._keep(model, evaluations, self.credits(args, manifests))

    @property
    def _prog(self) -> str:
        return f"recipes/{self.name}/run.py"

    def _keep(self, model: Path, evaluations: Mapping[str, Evaluation], credits: Mapping[str, str]) -> None:
        """Store corpora, licences and error rates in the model folder."""
        figures = {name: evaluation.to_json() for name, evaluation in evaluations.items()}
        config = read_config(model)
        trained = {name: value for name, value in config.provenance.items() if name != "dev"}  # `results` has details
        provenance = {
            "corpus": self.corpus,
            "licence": self.licence,
            **({"corpora": dict(credits)} if credits else {}),
            "results": {name: {"wer": values["wer"], "cer": values["cer"]} for name, values in figures.items()},
        }
        write_config(model, replace(config, provenance={**trained, **provenance}))


def ways_of(model: Path) -> dict[str, DecodingOptions | None]:
    """How to measure a model folder, by the words for it: greedily, and last with its own options, None."""
    own = read_config(model).decoding
    return {"": GREEDY} | ({} if own.greedy else {f", beam of {own.search.beam_width}": None})


def compared(evaluations: Mapping[str, Evaluation], names: Iterable[str], *, before: str, after: str) -> Iterator[str]:
    """For each manifest, a sentence on the errors of the start model and of the new one, each as it decodes by default.

    Args:
        evaluations: by the name of the manifest, the way of decoding, and ", before" for the start model.
        names: of the manifests.
        before, after: the ways of decoding by default; see `ways_of`.
    """
    for name in names:
        old, new = evaluations[f"{name}{before}, before"], evaluations[f"{name}{after}"]
        rates = [getattr(evaluation, evaluation.headline).counts.rate for evaluation in (old, new)]
        yield (
            f"{name}: {100 * rates[0]:.1f} % {old.headline.upper()} before ({before[2:] or 'greedy'}), "
            f"{100 * rates[1]:.1f} % after ({after[2:] or 'greedy'})"
        )


def measure(
    model: Path,
    manifests: Mapping[str, Path],
    *,
    device: str,
    way: str,
    decoding: DecodingOptions | None,
) -> dict[str, Evaluation]:
    """Measure error rates on each manifest, and print tables; evaluations by the name of the manifest and `way`.

    Args:
        decoding: None means the model's own options.
    """
    recognizer = load(model, device=device, decoding=decoding)
    evaluations: dict[str, Evaluation] = {}
    for name, path in manifests.items():
        evaluation = evaluations[f"{name}{way}"] = evaluate(recognizer, read_manifest(path))
        write_result("\n".join([*table(evaluation, model=f"{model}{way}", manifest=str(path)), "", ""]))
    return evaluations


def word_list(model: Path, words: Sequence[str]) -> dict[str, DecodingOptions]:
    """The options of a beam search that writes only these words; their list is stored in the model folder."""
    lexicon, spelling = model / "words.txt", read_config(model).text
    write_whole(lexicon, "".join(f"{normalize(word, spelling)}\n" for word in words))
    return {"beam of 16": DecodingOptions.of(beam_width=16, lexicon=str(lexicon), only_lexicon=True)}


def some_utterances(manifest: Path, path: Path, *, count: int) -> Path:
    """Write a manifest of `count` utterances of another manifest; its path."""
    write_manifest(some(read_manifest(manifest), count), path)
    return path


def some(utterances: Sequence[Utterance], count: int) -> Sequence[Utterance]:
    """At most `count` utterances, evenly spaced."""
    return utterances[:: max(1, len(utterances) // count)][:count]


def smaller(config: TrainingConfig) -> TrainingConfig:
    """The configuration of a tiny model that trains in seconds, to test the stages."""
    encoder = replace(config.encoder, num_layers=2, hidden_size=16, conv_channels=2, projection=0)
    loop = replace(config.loop, epochs=2, warmup_epochs=0.5, average_best=1)
    fresh = replace(config, init="", init_alphabet="keep", frozen_layers=0)
    return replace(fresh, encoder=encoder, loop=loop, auxiliary=AuxiliaryOptions())

"""asr-train: train an acoustic model on manifests, in a run folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from asr.cli.arguments import Parser, add_options, at_least, given_values, show_progress
from asr.cli.command import INTERRUPTED, noter, run_command, say, say_next, set_threads, write_result
from asr.errors import ConfigError
from asr.files.reading import read_json
from asr.options import from_json, to_json

if TYPE_CHECKING:
    from asr.training.config import TrainingConfig

PROG = "asr-train"
FEATURES = "features"  # of a model's pretrained encoder, in the run folder

_SHORT = (
    "run",
    "config",
    "resume",
    "nproc",
    "data.train",
    "data.dev",
    "init",
    "encoder.hidden_size",
    "loop.epochs",
    "loop.learning_rate",
    "device",
)
_EXAMPLES = """\
precedence of options:
  Flags override the --config file, which overrides the defaults. With --init,
  the model's text, frontend and encoder options replace the defaults, and
  without --config the learning rate and epochs are chosen for so many
  recordings. A --config file is JSON with the names of the flags, such as
  {"encoder": {"hidden_size": 320}}; missing options have their defaults. Every
  run folder has such a file, config.json. Paths are relative to the working
  directory.

the run folder:
  config.json, log.jsonl, curve.png, tensorboard/, checkpoints/, and at the end
  model/. Only the path of model/ is printed on standard output. Ctrl-C (once)
  saves a checkpoint. To continue, run the same command again, or
  asr-train --run DIR --resume.

examples:
  asr-train --run runs/a --data.train train.jsonl.gz --data.dev dev.jsonl.gz
  asr-train --run runs/b --config runs/a/config.json --encoder.hidden-size 320
  asr-train --run runs/b --resume
  asr-train --run runs/b --resume --nproc 2
  asr-train --run runs/mine --init english --data.train mine.jsonl.gz \\
            --data.dev dev.jsonl.gz
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `asr-train` with these arguments, or the arguments of the process."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["--"]:  # needed under torchrun, which takes --run for one of its own flags
        del arguments[0]
    return run_command(PROG, lambda flags: make_parser().parse(flags), run, arguments)


def make_parser() -> Parser:
    """The parser of `asr-train`, with a flag for each field of `TrainingConfig`."""
    from asr.text.normalization import Numbers
    from asr.training.config import TrainingConfig

    parser = Parser(
        PROG,
        usage="asr-train --run DIR [--config FILE] [--resume] [--GROUP.OPTION VALUE...]",
        description="Train an acoustic model, or resume an interrupted training.",
        examples=_EXAMPLES,
        short=_SHORT,
    )
    add_run(parser)
    add_workers(parser)
    parser.add_argument(
        "--data.numbers",
        dest="text.numbers",
        choices=get_args(Numbers),
        default=argparse.SUPPRESS,
        help="the same as --text.numbers",
    )
    add_options(parser, TrainingConfig, title="model")
    return parser


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a training in a run folder: --run, --config, --resume and --nproc."""
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder; created if missing")
    parser.add_argument("--config", type=Path, metavar="FILE", help="options as JSON; flags override them")
    parser.add_argument("--resume", action="store_true", help="continue the run in DIR with its own config.json")
    add_processes(parser)


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add the flag --nproc."""
    parser.add_argument(
        "--nproc",
        type=at_least(1),
        default=1,
        metavar="N",
        help="train in N processes, each on a GPU or on --threads threads (default: its share of the processor)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the flag --workers."""
    parser.add_argument(
        "--workers",
        type=at_least(0),
        default=0,
        metavar="N",
        help="read and augment sound in N processes for each training process; 0: in a thread (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    config = read_training_config(args)
    from asr.training.acoustic import train_acoustic_model

    status = train_in_folder(partial(train_acoustic_model, config, workers=args.workers), args, prog=PROG)
    from asr.training.distributed import is_first

    if status == 0 and is_first() and (args.run / "model").is_dir():
        dev = Path(config.data.dev[0])
        test = dev.with_name(dev.name.replace("dev", "test", 1))
        before = ["--compare", getattr(args, "init", config.init)] if config.init else []
        say_next(["asr-evaluate", args.run, test if test.is_file() else dev, *before], args, prog=PROG)
    return status


def train_in_folder(train: Callable[..., object], args: argparse.Namespace, *, prog: str) -> int:
    """Train in the run folder and print the path of the model; returns the exit status."""
    from asr.training.distributed import is_first
    from asr.training.loop import Interrupted

    set_threads(args)
    note, progress = noter(args, prog=prog), show_progress(args)
    try:
        train(args.run, device=args.device, note=note, progress=progress, processes=args.nproc)
    except Interrupted as interrupted:
        if is_first():
            say(interrupted, prog=prog)
        return INTERRUPTED
    if is_first():
        write_result(f"{args.run / 'model'}\n")
    return 0


def read_training_config(args: argparse.Namespace) -> TrainingConfig:
    """The configuration from flags, file, run folder and initial model."""
    from asr.training.config import TrainingConfig

    values = configured_values(args, TrainingConfig)
    if (init := values.get("init")) and isinstance(init, str):
        from asr.acoustic.config import read_config
        from asr.acoustic.folder import find_model
        from asr.training.distributed import only_first

        folder = find_model(init)
        model = read_config(folder)
        parts = {part: to_json(getattr(model, part)) for part in ("text", "frontend", "encoder")}
        check_data(values, args.run, what="manifests")
        if not args.config and not args.resume:
            # The states in a cache are those of whole utterances, without other augmentation.
            varies = args.workers or values.get("augment") or values["data"].get("chunked")
            cache = args.run / FEATURES if model.frontend.has_encoder and not varies else None
            parts |= chosen_by_rule(values, cache=cache, note=only_first(noter(args, prog=PROG)))
        values = merged(parts, {**values, "init": str(folder)})
    check_data(values, args.run, what="manifests")
    return from_json(TrainingConfig, values)


def chosen_by_rule(
    values: Mapping[str, Any], *, cache: Path | None, note: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """The options of a training from a model, for the training data in `values`; those of the loop are noted."""
    from asr.training.examples import read_utterances
    from asr.training.fine_tuning import fine_tuning_options

    utterances = read_utterances(values["data"]["train"])
    options = fine_tuning_options(utterances, cache=cache)
    loop = options["loop"] | values.get("loop", {})
    minutes = sum(utterance.duration_seconds for utterance in utterances) / 60
    note(
        f"{len(utterances)} utterances, {minutes:.1f} minutes, to train on from the model: at most {loop['epochs']} "
        f"epochs at a learning rate of {loop['learning_rate']:g} (--loop.epochs, --loop.learning-rate)"
    )
    return options


def configured_values(args: argparse.Namespace, kind: type[Any]) -> dict[str, Any]:
    """The options of --config, or of the folder of --resume, overridden by the flags.

    Raises:
        ConfigError: both are given, the folder has no run, or a file is not JSON.
    """
    path = args.config
    if args.resume:
        if path:
            raise ConfigError("--resume takes the configuration from the run folder: leave out --config")
        path = args.run / "config.json"
        if not path.is_file():
            raise ConfigError(f"no run to resume in {args.run}: it has no config.json")
    return merged(_read_json(path) if path else {}, given_values(args, kind))


def check_data(values: Mapping[str, Any], run: Path, *, what: str) -> None:
    """Check that the options have `data.train` and `data.dev`; `run` is the run folder. Raises: ConfigError."""
    data = values.get("data")
    resume = f"; to resume the run in {run}, use --resume" if (run / "config.json").is_file() else ""
    for name, purpose in (("train", "to train on"), ("dev", "to choose the best epochs")):
        if not isinstance(data, Mapping) or name not in data:
            raise ConfigError(
                f"the {what} {purpose} must be given: --data.{name}, or data.{name} in the --config file{resume}"
            )


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, overridden by `over`, group by group."""
    result = dict(values)
    for key, value in over.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


def _read_json(path: Path) -> dict[str, Any]:
    """The options in a file."""
    try:
        values = read_json(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} must hold JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a JSON object of options, not a {type(values).__name__}")
    return values


if __name__ == "__main__":
    sys.exit(main())

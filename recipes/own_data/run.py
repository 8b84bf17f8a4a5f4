"""Your own recordings: import them, fine-tune an existing model, and measure error rates before and after."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from asr.acoustic.config import ModelConfig, read_config
from asr.acoustic.folder import find_model
from asr.cli.arguments import Parser, add_options, given_options
from asr.data.manifest import read_manifest, spelled_text
from asr.errors import ConfigError, DataError
from asr.importing.sources import SourceOptions
from asr.importing.utterances import SPLITS, SplitOptions, import_recordings
from asr.text.alphabet import Alphabet
from asr.training.augmentation import AugmentOptions
from asr.training.config import DataOptions, LoopOptions, TrainingConfig
from asr.training.fine_tuning import fine_tuning_options
from recipes.stages import Note, Recipe


def add_flags(parser: Parser) -> None:
    """--init, and how to read the recordings."""
    add_options(parser, SourceOptions, title="reading")
    parser.add_argument(
        "--init",
        metavar="NAME|DIR",
        help="start from this embedded model, model folder or run folder (default: the default model)",
    )
    parser.add_argument(
        "--extend-alphabet",
        action="store_true",
        help="add the characters of the texts that the start model lacks; its language models do not know them and are "
        "lost, so that the result decodes greedily (default: refuse such texts)",
    )


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> Mapping[str, Path]:
    """Manifests of train, dev and test: those that the source has, or new ones of its recordings.

    Recordings are split by speaker, by recording or by utterance: the first of these that fills all three splits is
    used, since there may be one speaker, or one long recording.
    """
    if args.source is None:
        raise ConfigError("the recordings must be given: --source PATH, a folder or a table as for asr-data import")
    if imported := manifests_in(args.source):
        note(f"using the manifests in {args.source}: {', '.join(path.name for path in imported.values())}")
        return imported
    shares = SplitOptions(dev=0.15, test=0.15)
    for splitting in (shares, replace(shares, split_by="recording"), replace(shares, split_by="utterance")):
        reading = given_options(args, SourceOptions)
        result = import_recordings([args.source], folder, reading=reading, splitting=splitting)
        if len(result.manifests) == len(SPLITS):
            break
    for sentence in (*result.problems, *result.notes):
        note(sentence)
    for split in ("train", "dev"):
        if split not in result.manifests:
            raise ConfigError(f"there must be utterances for {split}, but there are none: add recordings")
    return result.manifests


def manifests_in(folder: Path) -> dict[str, Path]:
    """The manifests that `asr-data import` wrote into a folder, cleaned if `asr-data check --fix` did; or none.

    Raises:
        ConfigError: only some are cleaned, so that faults of the others would be used.
    """
    by_kind = {
        end: {split: path for split in SPLITS if (path := folder / f"{split}{end}.jsonl.gz").is_file()}
        for end in (".clean", "")
    }
    clean, plain = by_kind.values()
    if not {"train", "dev"} <= plain.keys() | clean.keys():
        return {}
    if clean and (missing := plain.keys() - clean.keys()):
        raise ConfigError(f"{folder} has no cleaned manifest of {', '.join(missing)}: asr-data check --fix all of them")
    return clean or plain


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The start model's shape, and the choices by rule for so many recordings."""
    start = find_model(args.init)
    model = read_config(start)
    if not args.extend_alphabet:
        check_characters(manifests, model)
    cache = args.output / "features" if model.frontend.has_encoder and not args.workers else None
    chosen = fine_tuning_options(read_manifest(manifests["train"]), cache=cache)
    loop = chosen["loop"] | ({"epochs": args.epochs} if args.epochs else {})
    return TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]),),
            dev=(str(manifests["dev"]),),
            batch_seconds=60.0,
            max_seconds=30.0,
            **chosen["data"],
        ),
        text=model.text,
        frontend=model.frontend,
        augment=AugmentOptions(**chosen["augment"]),
        encoder=model.encoder,
        loop=LoopOptions(**loop, seed=args.seed),
        init=str(start),
        init_alphabet="extend" if args.extend_alphabet else "keep",
        name="own_data",
        description=f"fine-tuned from {model.name or start.name}",
    )


def check_characters(manifests: Mapping[str, Path], model: ModelConfig) -> None:
    """Check that the start model can write all texts.

    Raises:
        DataError: it cannot; the message names the first such utterance and its characters, and counts the others.
    """
    alphabet = Alphabet(model.characters)
    refused = []
    for path in manifests.values():
        for utterance in read_manifest(path):
            dropped: Counter[str] = Counter()
            alphabet.encode(spelled_text(utterance, model.text), dropped=dropped)
            if dropped:
                refused.append((path, utterance, dropped))
    if refused:
        path, utterance, dropped = refused[0]
        others = f"; {len(refused) - 1} other texts have such ones" if refused[1:] else ""
        raise DataError(
            f"the alphabet of the start model must have the characters of {utterance.id!r}, but lacks "
            f"{', '.join(map(repr, sorted(dropped)))} in {utterance.text!r:.80}; correct the text, give "
            f"--numbers spell (numbers in English words), or --extend-alphabet, which loses the language models"
            f"{others}",
            path=path,
        )


RECIPE = Recipe(
    name="own_data",
    about="Fine-tune a model on your own recordings, and measure it before and after.",
    examples="""\
  python -m recipes.own_data.run --source recordings/
  python -m recipes.own_data.run --source texts.csv --init runs/english/seed-0/english""",
    corpus="own recordings",
    licence="not published",
    epochs=None,
    prepare=prepare,
    configure=configure,
    source="folder or table of recordings, as for asr-data import; or the folder of manifests that it wrote",
    add_flags=add_flags,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())

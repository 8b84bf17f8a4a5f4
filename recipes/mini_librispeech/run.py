"""Mini LibriSpeech: five hours of audiobooks, enough for a model to learn to spell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from asr.acoustic.options import EncoderOptions
from asr.cli.arguments import Parser
from asr.corpora import mini_librispeech
from asr.corpora.pronunciations import lexicon, read_cmudict
from asr.data.manifest import read_manifest
from asr.files.writing import write_whole
from asr.text.normalization import TextOptions, normalize
from asr.training.augmentation import AugmentOptions
from asr.training.config import AuxiliaryOptions, DataOptions, LoopOptions, TrainingConfig
from recipes import pretrained
from recipes.stages import Note, Recipe

LEXICON = "lexicon.txt"
SPEEDS = (0.9, 0.95, 1.0, 1.05, 1.1)
DESCRIPTION = "English audiobooks, trained on five hours; for experiments, not for use"


def add_flags(parser: Parser) -> None:
    """--pretrained and its companions, and --cmudict."""
    pretrained.add_pretrained(parser)
    parser.add_argument(
        "--cmudict",
        type=Path,
        metavar="FILE",
        help="CMU's pronouncing dictionary, plain or .xz, for phones as a second training target, "
        "without --pretrained (default: none)",
    )


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> dict[str, Path]:
    """Manifests of train-clean-5 and dev-clean-2, and a lexicon if a dictionary is given."""
    manifests = mini_librispeech.prepare(source=args.source, output=folder, progress=progress)
    if args.cmudict:
        texts = (normalize(utterance.text, TextOptions()) for utterance in read_manifest(manifests["train-clean-5"]))
        words = {word for text in texts for word in text.split()}
        write_whole(folder / LEXICON, lexicon(words, read_cmudict(args.cmudict)))
    return manifests


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices of this recipe: those that improved AN4 and general English."""
    train, dev = (str(manifests["train-clean-5"]),), (str(manifests["dev-clean-2"]),)
    if pretrained.has_encoder(args):
        config = TrainingConfig(
            data=DataOptions(train=train, dev=dev, batch_seconds=80.0, max_seconds=24.0),
            augment=AugmentOptions(speeds=SPEEDS, time_mask_max_frames=20, frequency_mask_max_bins=30),
            loop=LoopOptions(epochs=args.epochs or 4, seed=args.seed, warmup_epochs=0.5, average_best=2),
            name="mini_librispeech",
            description=DESCRIPTION,
        )
        return pretrained.on_encoder(config, args)
    return TrainingConfig(
        data=DataOptions(train=train, dev=dev, batch_seconds=48.0, max_seconds=20.0),
        augment=AugmentOptions(speeds=SPEEDS, time_mask_max_frames=25, frequency_mask_max_bins=15),
        encoder=EncoderOptions(num_layers=4, hidden_size=256, dropout=0.15),
        auxiliary=AuxiliaryOptions(lexicon=str(args.output.absolute() / "data" / LEXICON), layer=2, weight=0.4)
        if args.cmudict
        else AuxiliaryOptions(),
        loop=LoopOptions(epochs=args.epochs or 60, seed=args.seed),
        name="mini_librispeech",
        description=DESCRIPTION,
    )


RECIPE = Recipe(
    name="mini_librispeech",
    about="Train a model on the five hours of Mini LibriSpeech, and measure it on dev-clean-2.",
    examples="""\
  python -m recipes.mini_librispeech.run
  python -m recipes.mini_librispeech.run --source corpora/LibriSpeech
  python -m recipes.mini_librispeech.run --pretrained encoders/whisper-base""",
    corpus="Mini LibriSpeech, https://www.openslr.org/31/",
    licence="CC BY 4.0",
    epochs=None,
    prepare=prepare,
    configure=configure,
    measured=("dev-clean-2",),
    add_flags=add_flags,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())

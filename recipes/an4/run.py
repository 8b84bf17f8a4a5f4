"""AN4: from CMU's corpus to a trained model and its error rates on the official test set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from asr.acoustic.options import EncoderOptions
from asr.corpora import an4
from asr.data.manifest import read_manifest
from asr.decoding.options import DecodingOptions
from asr.files.writing import write_whole
from asr.lm.recurrent import NetworkOptions
from asr.lm.rnn import LanguageModel
from asr.lm.vocabulary import VocabularyOptions
from asr.training.augmentation import AugmentOptions
from asr.training.config import (
    AuxiliaryOptions,
    DataOptions,
    LanguageLoopOptions,
    LanguageTrainingConfig,
    LoopOptions,
    TextDataOptions,
    TrainingConfig,
)
from asr.training.language import train_language_model
from recipes.stages import Note, Recipe

LEXICON = "lexicon.txt"


def prepare(args: argparse.Namespace, folder: Path, *, note: Note, progress: bool | None) -> dict[str, Path]:
    """Manifests of train, dev and test, with the corpus's pronunciations in the same folder."""
    manifests = an4.prepare(source=args.source, output=folder, progress=progress)
    lexicon = manifests.pop("lexicon")
    assert lexicon == (folder / LEXICON).absolute()
    return manifests


def configure(manifests: Mapping[str, Path], args: argparse.Namespace) -> TrainingConfig:
    """The choices of this recipe, made on dev; their effects are in its README.md."""
    return TrainingConfig(
        data=DataOptions(
            train=(str(manifests["train"]),),
            dev=(str(manifests["dev"]),),
            batch_seconds=72.0,
            max_seconds=12.0,
            join_probability=0.25,
        ),
        augment=AugmentOptions(
            speeds=(0.85, 0.925, 1.0, 1.075, 1.15),
            pause_seconds=1.0,
            background_probability=0.03,
            time_mask_max_frames=40,
            frequency_mask_max_bins=27,
        ),
        encoder=EncoderOptions(num_layers=4, hidden_size=256, dropout=0.35),
        auxiliary=AuxiliaryOptions(lexicon=str(args.output.absolute() / "data" / LEXICON), layer=2, weight=0.5),
        loop=LoopOptions(epochs=args.epochs, seed=args.seed),
        name="an4",
        description="US English names, numbers, dates and spelled letters, as in AN4; not general English",
    )


def decoding(
    args: argparse.Namespace, manifests: Mapping[str, Path], model: Path, *, note: Note, progress: bool | None
) -> dict[str, DecodingOptions]:
    """Rescoring by a language model of characters in the model folder, which can spell unseen names."""
    run = model.parent / "lm"
    texts = {split: run.parent / f"{split}.txt" for split in ("train", "dev")}
    for split, path in texts.items():
        text = "".join(f"{utterance.text}\n" for utterance in read_manifest(manifests[split]))
        if not path.is_file() or path.read_text() != text:  # a run identifies its text by the time of the file
            write_whole(path, text)
    config = LanguageTrainingConfig(
        data=TextDataOptions(train=(str(texts["train"]),), dev=(str(texts["dev"]),), batch_size=16, chunk_length=40),
        vocabulary=VocabularyOptions(unit="character"),
        network=NetworkOptions(hidden_size=256, embedding_size=64, dropout=0.4),
        loop=LanguageLoopOptions(epochs=60, seed=args.seed, early_stop_epochs=12),
        name="an4-lm",
        description="what is said in AN4, letter by letter",
    )
    if args.smoke:
        network = replace(config.network, hidden_size=8, embedding_size=8)
        config = replace(config, network=network, loop=replace(config.loop, epochs=1))
    train_language_model(config, run, device=args.device, note=note, progress=progress)
    LanguageModel.load(run / "model").save(model / "lm", stored="float16")
    return {"beam of 100": DecodingOptions.of(beam_width=100, rescore_lm=str(model / "lm"))}


RECIPE = Recipe(
    name="an4",
    about="Train a model on AN4, and measure it on the official test set.",
    examples="""\
  python -m recipes.an4.run
  python -m recipes.an4.run --source ~/corpora/an4 --output runs/an4 --seed 1""",
    corpus="CMU AN4 (Census), train without seven speakers, http://www.speech.cs.cmu.edu/databases/an4/",
    licence="CMU's BSD-style terms, free for any purpose",
    epochs=150,
    prepare=prepare,
    configure=configure,
    decoding=decoding,
)
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(main())

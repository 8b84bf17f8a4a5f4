"""Our models as ONNX files, which need neither torch nor this package: the graph of `asr.acoustic.graph` in a folder.

The folder is one of those that `asr.acoustic.foreign.onnx_export` reads.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from asr.acoustic.config import ModelConfig, read_config
from asr.acoustic.folder import in_folder, out_of_folder, own_files
from asr.acoustic.foreign.loading import find_foreign, write_decoding
from asr.acoustic.foreign.onnx_export import OURS
from asr.acoustic.graph import acoustic_graph, torch_only
from asr.compute.onnx_graph import is_ours
from asr.errors import ConfigError
from asr.files.folders import replacing_folder
from asr.files.model_folder import read_weights
from asr.options import to_json
from asr.text.alphabet import Alphabet

MODEL_FILE, TOKENS_FILE = "model.onnx", "tokens.txt"


def export_onnx(model: str | os.PathLike[str], folder: str | os.PathLike[str], *, int8: bool = False) -> None:
    """Write the folder of a model for onnxruntime, completely or not at all: model.onnx, tokens.txt, decoding options.

    The n-gram models, the lexicon and the recurrent language model in its own folder are copied.

    Args:
        model: its own folder.
        folder: the path of the new one; an exported folder is replaced.
        int8: quantise the encoder's matrices, each row or column with a step of its own: a quarter of the size, or half
            of it with a Whisper encoder, whose last matrix of each layer stays float32.
    Raises:
        ConfigError: the model is none of ours or has a part that cannot be exported; or the folder holds something
            else.
        DataError: the folder of the model is damaged.
    """
    model, folder = Path(model), Path(folder)
    if find_foreign(model):
        raise ConfigError(f"{model} is a model of others or an exported one; only models of asr can be exported")
    config = read_config(model)
    _check(config, folder)
    graph = acoustic_graph(config, int8=int8)
    arrays = graph.arrays(read_weights(model, shapes=graph.shapes))
    decoding = in_folder(config.decoding, model)
    with replacing_folder(folder) as new:
        (new / MODEL_FILE).write_bytes(graph.to_bytes(arrays, metadata=_metadata(config)))
        labels = ["<blk>", *("<space>" if character == " " else character for character in config.characters)]
        tokens = "".join(f"{label} {column}\n" for column, label in enumerate(labels))
        (new / TOKENS_FILE).write_text(tokens, encoding="utf-8")
        decoding = out_of_folder(decoding, model)
        for name, path in own_files(decoding, model).items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, new / name)
        write_decoding(new, decoding)


def _check(config: ModelConfig, folder: Path) -> None:
    """Raises: ConfigError: the model or the folder cannot be used."""
    if part := torch_only(config):
        raise ConfigError(f"a pretrained encoder must be Whisper's to be exported to ONNX, not {part}")
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free and not ((folder / MODEL_FILE).is_file() and is_ours(folder / MODEL_FILE)):
        raise ConfigError(f"{folder} exists and is no exported model, so it is not replaced: choose another folder")


def _metadata(config: ModelConfig) -> dict[str, str]:
    """What a reader has to know beside the graph."""
    return {
        "model_type": OURS,
        "name": config.name,
        "sample_rate": str(config.sample_rate),
        "subsampling_factor": str(config.samples_per_frame),
        "vocab_size": str(Alphabet(config.characters).size),
        "text": json.dumps(to_json(config.text)),
    }

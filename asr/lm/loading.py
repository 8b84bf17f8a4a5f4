"""A recurrent language model from its folder, in the runtime that was chosen."""

from __future__ import annotations

import os
from typing import Any

from asr.compute.runtime import needing_torch
from asr.lm.recurrent import TokenScores


def load_language_model(
    folder: str | os.PathLike[str], *, runtime: str, device: str = "cpu", dtype: Any = None
) -> TokenScores:
    """The language model in a folder.

    Args:
        folder: its path; see `asr.lm.recurrent.find_language_model`.
        runtime: "onnx", on the processor, or "torch".
        device: of torch; see `asr.compute.device.find_device`.
        dtype: torch format of its matrix products; None is float32.
    Raises:
        ConfigError: torch is not installed.
        DataError: the folder holds no language model, or is damaged.
    """
    if runtime == "onnx":
        from asr.lm.onnx_lm import OnnxLanguageModel

        return OnnxLanguageModel.load(folder)
    with needing_torch("runtime torch" if device in ("auto", "cpu") else f"device {device}"):
        from asr.compute.device import find_device
        from asr.lm.rnn import LanguageModel
    return LanguageModel.load(folder).prepare(find_device(device), dtype)

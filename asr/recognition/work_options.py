"""The options of work on many recordings, whatever is made of them: which sound, by which model, how it computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from asr.audio.source import MAX_INPUT_BYTES
from asr.compute.runtime import Precision, Runtime
from asr.options import option


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """What `TranscribeOptions` and `AlignOptions` share.

    Args:
        nproc: work in this many processes, each with its own copy of the model, its part of the processor threads, and
            one of several GPUs. The calling script needs its `if __name__ == "__main__"`.
        channel, track, max_input_bytes: as for `Recognizer.transcribe`.
        model, device, precision, runtime, batch_size: as for `asr.load`.
        threads: processor threads; None means the default of the runtime.
    """

    nproc: int = option(1, least=1)
    channel: int | None = option(None, least=0)
    track: int | None = option(None, least=0)
    max_input_bytes: int = option(MAX_INPUT_BYTES, least=1)
    model: str | os.PathLike[str] | None = None
    device: str = "auto"
    precision: Precision = "auto"
    runtime: Runtime = "auto"
    batch_size: int = option(16, least=1)
    threads: int | None = option(None, least=1)

    @property
    def sound(self) -> dict[str, Any]:
        """The part of a recording to work on, as arguments of `read_audio`."""
        return {"channel": self.channel, "track": self.track, "max_input_bytes": self.max_input_bytes}

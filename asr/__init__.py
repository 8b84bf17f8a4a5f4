"""Speech recognition with CTC: transcribe, train, decode, align and rescore.

    import asr
    recognizer = asr.load()
    transcript = recognizer.transcribe("file.wav")
    transcript.text, transcript.words[0].start, transcript.words[0].end, transcript.words[0].confidence

`__init__.pyi` lists the public names. Each is imported when it is first used, so `import asr` loads nothing else.
"""

from typing import Any

import lazy_loader

__version__ = "0.1.0"
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    from asr.compute.runtime import needing_torch

    with needing_torch(f"asr.{name}"):
        return _load(name)

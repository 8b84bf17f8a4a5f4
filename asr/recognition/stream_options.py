"""`StreamOptions`, in a module of its own: command lines need it before they load a model's parts."""

from __future__ import annotations

from dataclasses import dataclass

from asr.options import check_options, option


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How live sound becomes text."""

    look_ahead: float = option(
        1.0, "wait for this many seconds of sound after a frame before its labels are fixed", least=0, most=10
    )
    step: float = option(0.5, "compute after this many seconds of new sound", least=0.04, most=10)
    left_context: float = option(
        4.0, "let the model see this many seconds of sound before the new frames", least=0, most=30
    )
    endpoint_silence: float = option(0.5, "end a segment after this many seconds without speech", least=0.1, most=10)

    def __post_init__(self) -> None:
        check_options(self)

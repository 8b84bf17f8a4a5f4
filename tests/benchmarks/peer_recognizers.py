"""The recognisers of recognizers.py, each in a separate process, which imports only the necessary packages.

    python peer_recognizers.py asr MODEL DECODING
    python peer_recognizers.py pocketsphinx
    python peer_recognizers.py vosk FOLDER
    python peer_recognizers.py faster-whisper FOLDER

Each line on standard input is the path of a file with 16-bit samples at 16 kHz; the answer is one line of JSON with the
text and the seconds, without the time to load the recogniser.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SAMPLE_RATE = 16000
BLOCK = SAMPLE_RATE // 4 * 2  # bytes of a quarter of a second, like blocks from a microphone
DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"beam_width": 1},
    "unrescored": {"rescore_lm": None},
    "default": {},
}

Recognize = Callable[[bytes], str]  # from samples to text


def load_asr(model: str, decoding: str) -> Recognize:
    """Our model of this name; the default model if the name is empty."""
    import numpy as np

    import asr

    recognizer = asr.load(model or None, device="cpu", decoding=DECODINGS[decoding])

    def recognize(sound: bytes) -> str:
        return recognizer.transcribe((np.frombuffer(sound, dtype="<i2"), SAMPLE_RATE)).raw_text

    return recognize


def load_pocketsphinx() -> Recognize:
    """pocketsphinx with the model in its wheel."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=float(SAMPLE_RATE), loglevel="FATAL")

    def recognize(sound: bytes) -> str:
        decoder.start_utt()
        decoder.process_raw(sound, full_utt=True)
        decoder.end_utt()
        return decoder.hyp().hypstr if decoder.hyp() else ""

    return recognize


def load_vosk(model: str) -> Recognize:
    """Vosk with a new recogniser for each recording, so that it does not adapt to earlier recordings."""
    import vosk

    vosk.SetLogLevel(-1)
    loaded = vosk.Model(model)

    def recognize(sound: bytes) -> str:
        recognizer = vosk.KaldiRecognizer(loaded, SAMPLE_RATE)
        texts = []
        for begin in range(0, len(sound), BLOCK):
            if recognizer.AcceptWaveform(sound[begin : begin + BLOCK]):
                texts.append(json.loads(recognizer.Result())["text"])
        return " ".join([*texts, json.loads(recognizer.FinalResult())["text"]])

    return recognize


def load_whisper(model: str) -> Recognize:
    """faster-whisper in int8, as its README advises for a CPU, with its default beam of 5."""
    import numpy as np
    from faster_whisper import WhisperModel

    loaded = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)

    def recognize(sound: bytes) -> str:
        segments, _ = loaded.transcribe(np.frombuffer(sound, dtype="<i2").astype(np.float32) / 2**15, language="en")
        return "".join(segment.text for segment in segments)

    return recognize


RECOGNIZERS: dict[str, Callable[..., Recognize]] = {
    "asr": load_asr,
    "pocketsphinx": load_pocketsphinx,
    "vosk": load_vosk,
    "faster-whisper": load_whisper,
}


def main() -> None:
    name, *arguments = sys.argv[1:]
    recognize = RECOGNIZERS[name](*arguments)
    for line in sys.stdin:
        sound = Path(line.removesuffix("\n")).read_bytes()
        start = time.perf_counter()
        text = recognize(sound)
        print(json.dumps({"text": text, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()

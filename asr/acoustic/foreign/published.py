"""CTC models that others have published, for people who look for a better one than the embedded models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A model of others.

    Args:
        name: for `--model`, once it is there.
        language: of its speech, in words.
        size: number of parameters, or size of the file.
        licence: of its weights.
        error: published word error rate, and who published it.
        how: to get it.
    """

    name: str
    language: str
    size: str
    licence: str
    error: str
    how: str


PUBLISHED_MODELS = (
    PublishedModel(
        name="torchaudio:WAV2VEC2_ASR_BASE_960H",
        language="English, read books",
        size="94 million parameters, 378 MB",
        licence="MIT",
        error="LibriSpeech test-clean 3.4 % (OpenVINO, Open Model Zoo)",
        how="pip install 'asr[pretrained]'; the first use downloads it",
    ),
    PublishedModel(
        name="sherpa-onnx-nemo-parakeet_tdt_ctc_110m-en-36000-int8",
        language="English, with case and punctuation",
        size="114 million parameters, 126 MB",
        licence="licence on the page of nvidia/parakeet-tdt_ctc-110m",
        error="on the same page",
        how="download NAME.tar.bz2 from https://github.com/k2-fsa/sherpa-onnx/releases/tag/asr-models and unpack it",
    ),
    PublishedModel(
        name="stt_en_fastconformer_ctc_large",
        language="English",
        size="115 million parameters",
        licence="licence on the page of nvidia/stt_en_fastconformer_ctc_large",
        error="LibriSpeech test-clean 2.1 %, test-other 4.2 % (NeMo documentation)",
        how="export it with NeMo (model.export) to an empty folder; write its tokens to vocab.txt, one a line",
    ),
    PublishedModel(
        name="icefall-asr-librispeech-zipformer-large-cr-ctc-20241018",
        language="English, read books",
        size="147 million parameters",
        licence="licence on the page of the model",
        error="LibriSpeech test-clean 2.0 %, test-other 4.4 % (icefall, RESULTS.md)",
        how="download Zengwei/NAME from https://huggingface.co; icefall's export-onnx-ctc.py writes the ONNX file",
    ),
    PublishedModel(
        name="mms-1b-all",
        language="over 1,000 languages",
        size="1 billion parameters",
        licence="CC BY-NC 4.0 (Meta)",
        error="less than half of Whisper's on 54 languages of FLEURS (Pratap et al. 2024)",
        how="pip install 'asr[pretrained]'; download facebook/NAME from https://huggingface.co into a folder",
    ),
)

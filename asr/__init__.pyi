from .acoustic.model import AcousticModel as AcousticModel
from .audio.waveform import duration_seconds as duration_seconds
from .audio.waveform import read_audio as read_audio
from .ctc.alignment import align as align
from .ctc.loss import ctc_loss as ctc_loss
from .decoding.decoder import Decoder as Decoder
from .decoding.decoder import decode as decode
from .decoding.label_decoder import build_decoder as build_decoder
from .decoding.options import DecodingOptions as DecodingOptions
from .errors import AsrError as AsrError
from .errors import AsrWarning as AsrWarning
from .errors import ConfigError as ConfigError
from .errors import DataError as DataError
from .errors import InputError as InputError
from .recognition.recognizer import Recognizer as Recognizer
from .recognition.recognizer import load as load
from .text.alphabet import Alphabet as Alphabet
from .text.metrics import cer as cer
from .text.metrics import wer as wer
from .text.normalization import TextOptions as TextOptions
from .text.normalization import normalize as normalize
from .text.transcript import Hypothesis as Hypothesis
from .text.transcript import Transcript as Transcript
from .text.transcript import Word as Word

__version__: str

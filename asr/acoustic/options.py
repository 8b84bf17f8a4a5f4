"""The options of the features and of the encoder of our models, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from asr.acoustic.shapes import SAMPLE_RATE, Length, Wav2Vec2Shape, WhisperShape, at_least_0, divide_up
from asr.acoustic.spectrum import mel_filterbank
from asr.compute.recurrence import Cell
from asr.errors import ConfigError
from asr.options import check_limits, check_options, option

SAMPLE_SCALE = 2.0**15  # Kaldi's unit: one step of a 16-bit sample

# Natural-log power that varies by less than 0.02 (0.1 dB) in an utterance has no information, as in an empty band
# or a clip of one frame. A division by the true deviation would only magnify rounding errors.
SMALLEST_DEVIATION = 0.02

MOST_STRIDES = 8
# More than any features need: 512 filters of 8192 frequencies; 16,000 frames of 1024 points a second.
MOST_WEIGHTS, MOST_POINTS, MOST_FFT = 1 << 23, 1 << 24, 1 << 16

Kind = Literal["log-mel", "mfcc"]
Window = Literal["povey", "hanning", "hamming", "rectangular"]
Normalization = Literal["utterance", "global", "none"]


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Shape of the recurrent stack."""

    reduction: Literal["conv", "stack"] = option("conv", "reduce time by strided convolutions or by stacking frames")
    time_strides: tuple[int, ...] = option(
        (2, 1), "time stride of each convolution, or number of stacked frames", least=1, most=100
    )
    conv_channels: int = option(32, "channels of each convolution", least=1, most=1024)
    cell: Cell = option("lstm", "recurrent cell")
    num_layers: int = option(4, "recurrent layers", least=1, most=256)
    hidden_size: int = option(256, "units of each direction of each layer", least=1, most=65536)
    bidirectional: bool = option(True, "read the utterance in both directions")
    merge: Literal["sum", "concat"] = option("sum", "add or concatenate the two directions")
    projection: int = option(0, "project each layer's output to this width; 0: do not", least=0, most=65536)
    pool_after_layer: int = option(1, "halve the frames by max pooling after this layer; 0: nowhere", least=0)
    residual: bool = option(True, "add a layer's input to its output where widths agree")
    layer_norm: bool = option(True, "normalise after each layer")
    dropout: float = option(0.35, "dropout after the reduction and after each layer", least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)
        if not 1 <= len(self.time_strides) <= MOST_STRIDES:
            raise ConfigError(
                f"time_strides must be 1 to {MOST_STRIDES} integers, not {len(self.time_strides)}", "time_strides"
            )
        if self.reduction == "stack" and len(self.time_strides) != 1:
            message = f"time_strides must be one number with reduction stack, not {self.time_strides}"
            raise ConfigError(message, "time_strides", "reduction")
        check_limits("pool_after_layer", self.pool_after_layer, most=self.num_layers)

    @property
    def time_reduction(self) -> int:
        """Input frames per output frame."""
        return math.prod(self.time_strides) * (2 if self.pool_after_layer else 1)

    def layer_frames(self, layer: int) -> int:
        """Frames of a recurrent layer's output, the layer counted from 1, in an output frame."""
        return 2 if layer < self.pool_after_layer else 1

    def output_length(self, length: Length) -> Length:
        """Number of output frames for `length` input frames; an int, or int64 of any shape (see `Length`).

        ceil(ceil(n / a) / b) = ceil(n / (a b)), so the chain of reductions is one division.
        """
        return divide_up(length, self.time_reduction)


@dataclass(frozen=True, kw_only=True)
class FrontendOptions:
    """Definition of the features; saved with the model, so that training and decoding use the same features.

    Raises:
        ConfigError: a value is out of range, the frame shift is not a whole number of samples, or a mel filter would
            cover no frequency of the FFT.
    """

    kind: Kind = option("log-mel", "compute log-mel energies, or MFCCs from them")
    sample_rate: int = option(16000, "samples per second of the waveforms", least=1, most=1_000_000)
    frame_length_ms: float = option(25.0, "length of a frame in milliseconds", least=0, most=1000)
    frame_shift_ms: float = option(
        10.0, "milliseconds from one frame to the next; a whole number of samples", least=0, most=1000
    )
    num_mel_bins: int = option(80, "number of triangular mel filters", least=1, most=10_000)
    num_ceps: int = option(13, "cepstral coefficients, C0 included (mfcc)")
    cepstral_lifter: float = option(22.0, "amplify the higher cepstra; 0: do not (mfcc)", least=0, most=10_000)
    low_frequency: float = option(20.0, "lower edge of the first mel filter in Hz")
    high_frequency: float = option(0.0, "upper edge of the last mel filter in Hz; 0 or below: counted from Nyquist")
    window: Window = option("povey", "multiply each frame by this window")
    preemphasis: float = option(0.97, "subtract this share of the previous sample", least=0, most=1)
    remove_dc_offset: bool = option(True, "subtract the mean from each frame")
    snip_edges: bool = option(False, "use only frames inside the audio; otherwise reflect its ends")
    dither: float = option(
        0.0, "standard deviation of the noise added in training, in 16-bit steps", least=0, most=32768
    )
    energy_floor: float = option(
        1.0, "smallest energy of a mel bin before the logarithm, for 16-bit samples", least=1e-30, most=1e30
    )
    delta_order: int = option(0, "1: append differences over time, 2: also their differences", least=0, most=2)
    pretrained: str | None = option(
        None,
        "use the outputs of this pretrained encoder as features: a folder with config.json and model.safetensors, or "
        "torchaudio:NAME",
    )
    pretrained_layer: int | None = option(
        None, "take the output of this layer of the pretrained encoder, and leave out the layers above; None: the last"
    )
    pretrained_sum: bool = option(False, "take a learnt weighted sum of the layers of the pretrained encoder")
    # The shape of the pretrained encoder, once it is part of a model.
    whisper: WhisperShape | None = None
    wav2vec2: Wav2Vec2Shape | None = None
    normalization: Normalization = option(
        "utterance", "normalise mean and deviation over each utterance, by fixed statistics, or not at all"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.whisper and self.wav2vec2:
            raise ConfigError("whisper and wav2vec2 must not both be there: a model has one encoder")
        if self.has_encoder and self.sample_rate != SAMPLE_RATE:
            raise ConfigError(
                f"sample_rate must be {SAMPLE_RATE} with pretrained, not {self.sample_rate}",
                "sample_rate",
                "pretrained",
            )
        check_limits("num_ceps", self.num_ceps, least=1, most=self.num_mel_bins if self.kind == "mfcc" else 10_000)
        shift = self.sample_rate * self.frame_shift_ms / 1000
        if not math.isclose(shift, round(shift), abs_tol=1e-6) or shift < 0.5:
            raise ConfigError(
                f"frame_shift_ms must be a whole number of samples, at least one, but {self.frame_shift_ms} ms "
                f"at {self.sample_rate} Hz is {shift:g}",
                "frame_shift_ms",
            )
        if self.window_length < 2:
            message = f"frame_length_ms must be 2 samples or more, but {self.frame_length_ms} ms is fewer"
            raise ConfigError(message, "frame_length_ms")
        self._check_memory()
        bottom, top = self.frequency_range
        nyquist = self.sample_rate / 2
        if not 0 <= bottom < top <= nyquist:
            raise ConfigError(
                f"mel filters must lie within 0 to {nyquist:g} Hz (Nyquist), not {bottom:g} to {top:g} Hz"
            )
        empty = int((mel_filterbank(self).max(axis=0) == 0).sum())
        if empty:
            raise ConfigError(
                f"each mel filter must cover a frequency of the FFT ({self.fft_length} points), but {empty} of "
                f"{self.num_mel_bins} cover none; lower num_mel_bins or lengthen the frames"
            )

    def _check_memory(self) -> None:
        """Raise a ConfigError before allocating arrays that are larger than any use needs."""
        second = round(self.sample_rate / self.hop_length * self.fft_length)
        for name, count, most in (
            ("the mel filters", self.num_mel_bins * self.fft_length, MOST_WEIGHTS),
            ("the cosines", self.num_mel_bins * self.num_ceps if self.kind == "mfcc" else 0, MOST_WEIGHTS),
            ("the frames of a second", second, MOST_POINTS),
            ("a frame", self.fft_length, MOST_FFT),
        ):
            if count > most:
                raise ConfigError(
                    f"{name} must be at most {most} numbers, but are {count} with frames of {self.fft_length} points "
                    f"every {self.hop_length} samples and {self.num_mel_bins} mel filters; lower num_mel_bins, shorten "
                    "the frames or shift them further"
                )

    @property
    def encoder_shape(self) -> WhisperShape | Wav2Vec2Shape | None:
        """The shape of the pretrained encoder, once it is part of a model."""
        return self.whisper or self.wav2vec2

    @property
    def has_encoder(self) -> bool:
        """Whether the features are those of a pretrained encoder."""
        return bool(self.pretrained or self.encoder_shape)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        if self.encoder_shape:
            return self.encoder_shape.hop_length
        return round(self.sample_rate * self.frame_shift_ms / 1000)

    @property
    def window_length(self) -> int:
        """Samples in a frame; a fraction of a sample is dropped, as Kaldi does."""
        return int(self.sample_rate * self.frame_length_ms / 1000 + 1e-6)

    @property
    def fft_length(self) -> int:
        """Points of the FFT: the smallest power of two that is not below the frame length."""
        return 1 << (self.window_length - 1).bit_length()

    @property
    def frequency_range(self) -> tuple[float, float]:
        """The outer edges of the mel filters, in Hz."""
        high = self.high_frequency
        return float(self.low_frequency), float(high if high > 0 else self.sample_rate / 2 + high)

    @property
    def num_features(self) -> int:
        """The number of features of a frame, M, deltas included."""
        if self.encoder_shape:
            return self.encoder_shape.width
        return (self.num_mel_bins if self.kind == "log-mel" else self.num_ceps) * (1 + self.delta_order)

    def num_frames(self, num_samples: Length) -> Length:
        """The number of frames for a number of samples, of one utterance or of each in a tensor.

        With `snip_edges` only whole windows count: 1 + floor((n - window) / hop), none in a clip shorter than a window.
        Without it, frame t is centred on sample (t + 1/2) hop and there are round(n / hop) frames (halves rounded up):
        a clip of half a hop or more, 5 ms by default, has a frame, and a shorter clip has none.

        Args:
            num_samples: samples, 0 or more; an int, or int64 of any shape (see `Length`).
        Returns:
            Frames, of the same type and shape.
        """
        if self.encoder_shape:
            return self.encoder_shape.num_frames(num_samples)
        if self.snip_edges:
            # One hop more before the division, because ONNX divides negative numbers towards zero.
            return at_least_0((num_samples - self.window_length + self.hop_length) // self.hop_length)
        return (num_samples + self.hop_length // 2) // self.hop_length

"""From samples to log-mel or MFCC features: one torch module, the same on CPU and GPU, alone and in a padded batch.

The definitions are Kaldi's, so that Kaldi's features, options and published values can be used:

    frames -> dither (training) -> remove the mean -> pre-emphasis -> window -> |FFT|^2 -> mel filters -> log
           [-> DCT -> lifter]  [-> deltas]  [-> mean and variance normalisation]

Compared with Kaldi or `torchaudio.compliance.kaldi`:

* Samples are in [-1, 1] and are multiplied by 2^15, because Kaldi reads 16-bit integers. Log energies are then equal;
  without the factor they are 2 ln 2^15 = 20.79 lower.
* The log is floored at `energy_floor`, in 16-bit units. Kaldi's constant is 1.2e-7, and dither keeps energies above it.
  The default here is 1.0, below the rounding noise of 16-bit audio, so digital silence is not an outlier.
* `dither` is added to the samples, before they are cut into overlapping frames (Kaldi draws new noise for each frame),
  in training mode only, and is off by default; Kaldi's default is 1.0.
* The Povey window is a Hann window to the power 0.85. As in Kaldi, the mean and pre-emphasis are computed within a
  frame (the first sample is its own predecessor), and the FFT length is a power of two.
* `snip_edges` is off by default (Kaldi's is on): the number of frames then depends on the shift alone.
* The mel filters are triangles of height one on the mel axis (not on the hertz axis as in HTK and librosa).
* MFCCs include C0, as with Kaldi's `--use-energy=false`; Kaldi's default replaces it by the log energy. Kaldi uses 23
  mel bins for both kinds; here `num_mel_bins` is 80 for both.
* A second-order delta is the first-order filter applied to itself, over static features that are repeated at the ends
  (Kaldi's `add-deltas`).

Source: Kaldi, src/feat (feature-window.cc, mel-computations.cc, feature-mfcc.cc, feature-functions.cc).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor, nn

from asr.acoustic.pretrained import FRAME_SAMPLES, SAMPLE_RATE, WhisperShape, num_frames
from asr.errors import ConfigError, InputError
from asr.options import check_limits, check_options, option

SAMPLE_SCALE = 2.0**15  # Kaldi's unit: one step of a 16-bit sample

DELTA_WINDOW = 2  # frames on each side of a first-order delta; Kaldi's default

# Natural-log power that varies by less than 0.02 (0.1 dB) in an utterance has no information, as in an empty band
# or a clip of one frame. A division by the true deviation would only magnify rounding errors.
SMALLEST_DEVIATION = 0.02

# Frames in one FFT on the CPU: they fit into its cache, which is 2.5 times faster than all at once.
CPU_BLOCK_FRAMES = 1024

# More than any features need: 512 filters of 8192 frequencies; 16,000 frames of 1024 points a second.
MOST_WEIGHTS, MOST_POINTS, MOST_FFT = 1 << 23, 1 << 24, 1 << 16

Kind = Literal["log-mel", "mfcc"]
Window = Literal["povey", "hanning", "hamming", "rectangular"]
Normalization = Literal["utterance", "global", "none"]


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
        None, "use the outputs of this pretrained encoder as features, a folder with config.json and model.safetensors"
    )
    whisper: WhisperShape | None = None  # its shape, once it is part of a model
    normalization: Normalization = option(
        "utterance", "normalise mean and deviation over each utterance, by fixed statistics, or not at all"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if (self.pretrained or self.whisper) and self.sample_rate != SAMPLE_RATE:
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
        empty = (mel_filterbank(self).amax(dim=1) == 0).sum().item()
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
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        if self.whisper:
            return FRAME_SAMPLES
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
        if self.whisper:
            return self.whisper.d_model
        return (self.num_mel_bins if self.kind == "log-mel" else self.num_ceps) * (1 + self.delta_order)

    @overload
    def num_frames(self, num_samples: int) -> int: ...
    @overload
    def num_frames(self, num_samples: Tensor) -> Tensor: ...
    def num_frames(self, num_samples: int | Tensor) -> int | Tensor:
        """The number of frames for a number of samples, of one utterance or of each in a tensor.

        With `snip_edges` only whole windows count: 1 + floor((n - window) / hop), none in a clip shorter than a window.
        Without it, frame t is centred on sample (t + 1/2) hop and there are round(n / hop) frames (halves rounded up):
        a clip of half a hop or more, 5 ms by default, has a frame, and a shorter clip has none.

        Args:
            num_samples: samples, 0 or more; an int or an int64 tensor of any shape.
        Returns:
            Frames, of the same type and shape.
        """
        if self.whisper:
            return num_frames(num_samples)  # type: ignore[type-var]  # of either type
        if self.snip_edges:
            frames = (num_samples - self.window_length) // self.hop_length + 1
            return frames.clamp(min=0) if isinstance(frames, Tensor) else max(frames, 0)
        return (num_samples + self.hop_length // 2) // self.hop_length


class Frontend(nn.Module):
    """Features of a padded batch of waveforms, as `FrontendOptions` describe them.

    It has no trainable parameters. With `normalization="global"` it has the buffers `mean` and `std`, (M,) float32,
    which are saved with the model's weights and set by `fit_normalization`, `set_statistics` or `load_state_dict`;
    otherwise its `state_dict` is empty.
    """

    mel_filters: Tensor
    window: Tensor
    cepstra: Tensor
    delta_filters: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, options: FrontendOptions):
        super().__init__()
        self.options = options
        self.register_buffer("window", window_function(options.window, options.window_length), persistent=False)
        self.register_buffer("mel_filters", mel_filterbank(options).T.float().contiguous(), persistent=False)
        if options.kind == "mfcc":
            self.register_buffer("cepstra", _cepstral_matrix(options), persistent=False)
        if options.delta_order:
            self.register_buffer("delta_filters", _delta_filters(options.delta_order), persistent=False)
        self._statistics_known = False
        if options.normalization == "global":
            # NaN until they are set, so that missing statistics are an error.
            self.register_buffer("mean", torch.full((options.num_features,), math.nan))
            self.register_buffer("std", torch.full((options.num_features,), math.nan))

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features and their lengths; an utterance's features do not depend on its padding or its neighbours.

        A clip too short for a frame has length 0. Without `snip_edges` the ends are reflected with the edge sample
        doubled (c b a | a b c | c b a), repeatedly if a clip is shorter than a window.

        Args:
            waveforms: (B, N) floating point in [-1, 1]; samples past an utterance's length are ignored.
            lengths: (B,) int64 samples, 0 <= length <= N, on any device (on a GPU the range is not checked, because the
                processor would have to wait).
        Returns:
            features (B, T, M) float32 on the waveforms' device, T = num_frames(N), zero past an utterance's length; and
            feature_lengths (B,) int64 on the device of `lengths`. Computed in float32 also under autocast.
        Raises:
            InputError: shapes or types are wrong, or a length is out of range.
            ConfigError: global statistics were never set.
        """
        features, mask, feature_lengths = self._unnormalized(waveforms, lengths)
        if self.options.normalization == "utterance":
            features = _normalize_utterances(features, mask)
        elif self.options.normalization == "global":
            self._require_statistics()
            features = (features - self.mean) / self.std
        return features.masked_fill(~mask[:, :, None], 0.0), feature_lengths

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics of `normalization="global"`.

        Args:
            mean: (M,) mean of each feature.
            std: (M,) its standard deviation, 0 or more; tiny ones are raised to `SMALLEST_DEVIATION`.
        Raises:
            ConfigError: the normalisation is not global.
            InputError: wrong shape, or not finite.
        """
        if self.options.normalization != "global":
            raise ConfigError(f"statistics need normalization 'global', but it is {self.options.normalization!r}")
        size = self.options.num_features
        for name, value in (("mean", mean), ("std", std)):
            if value.shape != (size,) or not value.isfinite().all():
                raise InputError(f"{name} must be {size} finite numbers, one for each feature, not {value}")
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=SMALLEST_DEVIATION))

    @torch.no_grad()
    def fit_normalization(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Estimate and set the global mean and standard deviation over all frames of some (training) waveforms.

        Args:
            batches: pairs of waveforms (B, N) and lengths (B,), as for `forward`.
        Raises:
            ConfigError: the normalisation is not global.
            InputError: there is no frame in the batches.
        """
        count = 0
        total = torch.zeros(self.options.num_features, dtype=torch.float64)
        total_square = torch.zeros_like(total)
        for waveforms, lengths in batches:
            features, mask, _ = self._unnormalized(waveforms, lengths)
            frames = features[mask].double().cpu()  # (frames of all utterances, M)
            count += len(frames)
            total += frames.sum(dim=0)
            total_square += frames.square().sum(dim=0)
        if not count:
            raise InputError("the batches must have at least one frame to estimate the normalisation from")
        mean = total / count
        self.set_statistics(mean, (total_square / count - mean.square()).clamp(min=0).sqrt())

    def _unnormalized(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, T, M), undefined where mask (B, T) is false, and feature_lengths (B,)."""
        _check_batch(waveforms, lengths)
        options = self.options
        device = waveforms.device
        feature_lengths = options.num_frames(lengths)
        with torch.autocast(device.type, enabled=False):
            samples = waveforms.float() * SAMPLE_SCALE
            if self.training and options.dither > 0:
                samples = samples + options.dither * torch.randn_like(samples)
            frames = self._frames(samples, lengths.to(device))
            at_once = CPU_BLOCK_FRAMES // max(1, len(samples)) if device.type == "cpu" else frames.shape[1]
            blocks = frames.split(max(1, at_once), dim=1)
            features = torch.cat([self._log_mel(block) for block in blocks], dim=1)
            if options.kind == "mfcc":
                features = features @ self.cepstra
            device_lengths = feature_lengths.to(device)
            if options.delta_order:
                features = _append_deltas(features, device_lengths, self.delta_filters)
        mask = torch.arange(features.shape[1], device=device) < device_lengths[:, None]  # (B, T)
        return features, mask, feature_lengths

    def _frames(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, N) -> a view (B, T, window_length) of the samples, or of a copy whose ends are reflected."""
        window, hop = self.options.window_length, self.options.hop_length
        num_frames = self.options.num_frames(samples.shape[1])
        if num_frames == 0:
            return samples.new_zeros(len(samples), 0, window)
        if self.options.snip_edges:
            return samples.unfold(1, window, hop)
        first = hop // 2 - window // 2  # the start of frame 0: before the samples if the window is longer than the hop
        left = max(0, -first)
        before = torch.arange(-left, 0, device=samples.device).expand(len(samples), -1)
        after = lengths[:, None] + torch.arange(window, device=samples.device)  # the last frame ends before n + window
        outside = torch.cat((before, after), dim=1)
        reflected = samples.gather(1, _reflect(outside, lengths[:, None]))
        extended = nn.functional.pad(samples, (left, window)).scatter_(1, outside + left, reflected)
        return extended[:, left + first :].unfold(1, window, hop)[:, :num_frames]

    def _log_mel(self, frames: Tensor) -> Tensor:
        """(B, T, window_length) -> (B, T, bins)."""
        if frames.numel() == 0:  # MKL's FFT refuses an empty batch
            return frames.new_zeros(*frames.shape[:2], self.options.num_mel_bins)
        if self.options.remove_dc_offset:
            frames = frames - frames.mean(dim=-1, keepdim=True)
        if self.options.preemphasis:
            previous = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
            frames = torch.sub(frames, previous, alpha=self.options.preemphasis)
        # Pad and square explicitly: on the CPU this is several times faster than rfft(n=...) and abs().
        padding = (0, self.options.fft_length - self.options.window_length)
        spectrum = torch.fft.rfft(nn.functional.pad(frames * self.window, padding))  # (B, T, F) complex
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ self.mel_filters).clamp(min=self.options.energy_floor).log()

    def _require_statistics(self) -> None:
        """Raise a ConfigError until the statistics are set; a later check would only wait for the GPU."""
        if not self._statistics_known:
            if self.mean.isnan().any():
                raise ConfigError(
                    "global normalisation needs statistics: call fit_normalization, or load weights, first"
                )
            self._statistics_known = True


def window_function(name: Window, length: int) -> Tensor:
    """The window, (length,) float32, symmetric: its first and last values are equal.

    Args:
        name: "povey" (Hann to the power 0.85), "hanning", "hamming" or "rectangular".
        length: samples, 2 or more.
    """
    if name == "rectangular":
        return torch.ones(length)
    if name == "hamming":
        return torch.hamming_window(length, periodic=False, dtype=torch.float64).float()
    hann = torch.hann_window(length, periodic=False, dtype=torch.float64)
    return (hann.pow(0.85) if name == "povey" else hann).float()


def mel_filterbank(options: FrontendOptions) -> Tensor:
    """Kaldi's mel filters, (num_mel_bins, fft_length / 2 + 1) float64.

    They are triangles of height 1 on the axis 1127 ln(1 + f / 700), and each ends at the centres of its two neighbours.
    """
    low, high = (_mel(torch.tensor(frequency, dtype=torch.float64)).item() for frequency in options.frequency_range)
    edges = torch.linspace(low, high, options.num_mel_bins + 2, dtype=torch.float64)[:, None]
    bins = torch.arange(options.fft_length // 2 + 1, dtype=torch.float64)
    mel = _mel(bins * options.sample_rate / options.fft_length)
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0)


def _mel(frequency: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(frequency / 700.0)


def _cepstral_matrix(options: FrontendOptions) -> Tensor:
    """(num_mel_bins, num_ceps) float32: the orthonormal DCT-II, each column times its lifter."""
    bins, ceps = options.num_mel_bins, options.num_ceps
    order = torch.arange(ceps, dtype=torch.float64)
    centre = torch.arange(bins, dtype=torch.float64)[:, None] + 0.5
    matrix = torch.cos(math.pi / bins * centre * order) * math.sqrt(2 / bins)
    matrix[:, 0] = math.sqrt(1 / bins)
    if options.cepstral_lifter:
        matrix *= 1 + 0.5 * options.cepstral_lifter * torch.sin(math.pi * order / options.cepstral_lifter)
    return matrix.float()


def _delta_filters(order: int) -> Tensor:
    """(taps, order) float32, a centred column for each order; the first is d[t] = sum_k k x[t + k] / sum_k k^2."""
    offsets = torch.arange(-DELTA_WINDOW, DELTA_WINDOW + 1, dtype=torch.float64)
    first = offsets / offsets.square().sum()
    reach = DELTA_WINDOW * order
    filters = torch.zeros(2 * reach + 1, order, dtype=torch.float64)
    column = torch.ones(1, dtype=torch.float64)
    for index in range(order):
        # The filter applied to itself: a full convolution. conv1d is a correlation, so one filter is reversed.
        column = nn.functional.conv1d(column[None, None], first.flip(0)[None, None], padding=2 * DELTA_WINDOW)[0, 0]
        margin = reach - len(column) // 2
        filters[margin : len(filters) - margin, index] = column
    return filters.float()


def _append_deltas(features: Tensor, lengths: Tensor, filters: Tensor) -> Tensor:
    """(B, T, M) -> (B, T, M (1 + order)); the first and last frame of each utterance are repeated without end."""
    batch, num_frames, num_features = features.shape
    reach = len(filters) // 2
    positions = torch.arange(-reach, num_frames + reach, device=features.device)
    last = (lengths - 1).clamp(min=0)[:, None]
    positions = torch.minimum(positions.clamp(min=0), last)  # (B, T + 2 reach)
    if num_frames == 0:
        return features.new_zeros(batch, 0, num_features * (1 + filters.shape[1]))
    repeated = features.gather(1, positions[:, :, None].expand(-1, -1, num_features))
    deltas = repeated.unfold(1, len(filters), 1) @ filters  # (B, T, M, taps) -> (B, T, M, order)
    return torch.cat((features, *deltas.unbind(dim=-1)), dim=-1)


def _reflect(positions: Tensor, lengths: Tensor) -> Tensor:
    """Positions (B, P) inside [0, length), with the waveform reflected without end: 2 1 0 | 0 1 2 | 2 1 0."""
    lengths = lengths.clamp(min=1)  # an empty utterance has no frame that uses them
    phase = positions % (2 * lengths)
    return torch.minimum(phase, 2 * lengths - 1 - phase)


def _normalize_utterances(features: Tensor, mask: Tensor) -> Tensor:
    """(B, T, M) with mean 0 and deviation 1 over the frames where mask (B, T) is true."""
    padding = ~mask[:, :, None]
    count = mask.sum(dim=1).clamp(min=1)[:, None, None]
    centred = features - features.masked_fill(padding, 0.0).sum(dim=1, keepdim=True) / count
    variance = centred.masked_fill(padding, 0.0).square().sum(dim=1, keepdim=True) / count
    return centred / variance.sqrt().clamp(min=SMALLEST_DEVIATION)


def _check_batch(waveforms: Tensor, lengths: Tensor) -> None:
    shape = tuple(waveforms.shape)
    if waveforms.ndim != 2 or not waveforms.is_floating_point():
        raise InputError(f"waveforms must be (batch, samples) floating point in [-1, 1], not {shape} {waveforms.dtype}")
    if lengths.shape != shape[:1] or lengths.dtype != torch.int64:
        raise InputError(f"lengths must be ({shape[0]},) int64, not {tuple(lengths.shape)} {lengths.dtype}")
    if lengths.device.type == "cpu" and ((lengths < 0) | (lengths > shape[1])).any():
        raise InputError(f"lengths must be between 0 and {shape[1]} samples, not {lengths.tolist()}")

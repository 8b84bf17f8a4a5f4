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

import torch
from torch import Tensor, nn

from asr.acoustic.options import SAMPLE_SCALE, SMALLEST_DEVIATION, FrontendOptions
from asr.acoustic.spectrum import cepstral_matrix, delta_filters, mel_filterbank, window_function
from asr.errors import ConfigError, InputError

# Frames in one FFT on the CPU: they fit into its cache, which is 2.5 times faster than all at once.
CPU_BLOCK_FRAMES = 1024


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
        constants = {
            "window": window_function(options.window, options.window_length),
            "mel_filters": mel_filterbank(options),
        }
        if options.kind == "mfcc":
            constants["cepstra"] = cepstral_matrix(options)
        if options.delta_order:
            constants["delta_filters"] = delta_filters(options.delta_order)
        for name, values in constants.items():
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)
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
        if self.options.normalization == "global":
            self._require_statistics()
        return self.normalized(features, mask), feature_lengths

    def normalized(self, features: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, M) normalised as the options say; zero where mask (B, T) is false."""
        if self.options.normalization == "utterance":
            features = _normalize_utterances(features, mask)
        elif self.options.normalization == "global":
            features = (features - self.mean) / self.std
        return features.masked_fill(~mask[:, :, None], 0.0)

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
        reflected = samples.gather(1, reflect(outside, lengths[:, None]))
        extended = nn.functional.pad(samples, (left, window)).scatter_(1, outside + left, reflected)
        return extended[:, left + first :].unfold(1, window, hop)[:, :num_frames]

    def _log_mel(self, frames: Tensor) -> Tensor:
        """(B, T, window_length) -> (B, T, bins)."""
        if frames.numel() == 0:  # MKL's FFT refuses an empty batch
            return frames.new_zeros(*frames.shape[:2], self.options.num_mel_bins)
        spectrum = self.spectrum(frames)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ self.mel_filters).clamp(min=self.options.energy_floor).log()

    def spectrum(self, frames: Tensor) -> Tensor:
        """(..., window_length) -> (..., F) complex: a linear function of the samples of a frame."""
        if self.options.remove_dc_offset:
            frames = frames - frames.mean(dim=-1, keepdim=True)
        if self.options.preemphasis:
            previous = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
            frames = torch.sub(frames, previous, alpha=self.options.preemphasis)
        # Pad and square explicitly: on the CPU this is several times faster than rfft(n=...) and abs().
        padding = (0, self.options.fft_length - self.options.window_length)
        return torch.fft.rfft(nn.functional.pad(frames * self.window, padding))

    def _require_statistics(self) -> None:
        """Raise a ConfigError until the statistics are set; a later check would only wait for the GPU."""
        if not self._statistics_known:
            if self.mean.isnan().any():
                raise ConfigError(
                    "global normalisation needs statistics: call fit_normalization, or load weights, first"
                )
            self._statistics_known = True


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


def reflect(positions: Tensor, lengths: Tensor) -> Tensor:
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

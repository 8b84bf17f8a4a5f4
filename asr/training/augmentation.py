"""Augmentation: speed, rooms, noise, level and codecs on waveforms, masks on features.

    waveform ─▶ speed ─▶ reverberation ─▶ noise ─▶ gain ─▶ telephone ─▶ MP3 ─▶ frontend ─▶ masks

The order is that of a recording: a person talks in a room, the room has noise, the recorder has a level, a line
transmits the recording, a file stores it. Waveforms are (N,) float32 arrays, may be empty, and are checked: an
`InputError` says what is wrong. All random numbers come from the generator in the arguments, so equal generators give
equal results; arguments are never written to.

Source: Ko et al. 2015 (speed), Ko et al. 2017 (reverberation and noise), Park et al. 2019 (SpecAugment).
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.source import SOUND_SUFFIXES
from asr.audio.waveform import Waveform, read_audio
from asr.errors import ConfigError, DataError, InputError
from asr.options import check_options, option

Choice = TypeVar("Choice")

TELEPHONE_RATE = 8000  # Hz, the sample rate of a telephone line: nothing above 4 kHz passes

# libsndfile's scale from 0 (best) to below 1 (LAME refuses 1). At 16 kHz: 62, 34, 18 kbit/s at 0, 0.5, 0.99.
MP3_COMPRESSION = (0.5, 0.99)


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Changes of training data, and their probabilities; the defaults need no files.

    Raises:
        ConfigError: a value is out of range.
    """

    speeds: tuple[float, ...] = option(
        (0.9, 1.0, 1.1), "play each utterance at one of these speeds; 1.1 is shorter and higher", least=0.1, most=10
    )
    reverb_probability: float = option(0.0, "share of utterances with reverberation added", least=0, most=1)
    noise_probability: float = option(0.0, "share of utterances with noise added", least=0, most=1)
    noise_snr_db: tuple[float, float] = option((5.0, 20.0), "lowest and highest signal-to-noise ratio in dB")
    gain_db: tuple[float, float] = option((0.0, 0.0), "lowest and highest change of level in dB")
    telephone_probability: float = option(
        0.0, "share of utterances passed through a telephone line: 8 kHz, G.711", least=0, most=1
    )
    mp3_probability: float = option(0.0, "share of utterances passed through MP3 of a low bit rate", least=0, most=1)
    pause_seconds: float = option(
        0.0, "longest pause, silent or faintly noisy, added before or after an utterance", least=0, most=3600
    )
    background_probability: float = option(
        0.0, "share of utterances replaced by noise alone, without a word", least=0, most=1
    )
    time_masks: int = option(2, "mask N stretches of frames in each utterance", least=0)
    time_mask_max_frames: int = option(50, "frames of the longest time mask", least=0)
    time_mask_max_fraction: float = option(
        0.2, "largest share of an utterance that its time masks hide together", least=0, most=1
    )
    frequency_masks: int = option(2, "mask N bands of mel bins in each utterance", least=0)
    frequency_mask_max_bins: int = option(20, "mel bins of the widest frequency mask", least=0)

    def __post_init__(self) -> None:
        check_options(self)
        if not self.speeds:
            raise ConfigError("speeds must be at least one factor, not ()", "speeds")
        for name in ("noise_snr_db", "gain_db"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise ConfigError(f"{name} must be a lower and a higher finite number, not {low} and {high}", name)


def augment_waveform(
    waveform: Waveform,
    options: AugmentOptions,
    noises: Sequence[Waveform],
    impulse_responses: Sequence[Waveform],
    rng: np.random.Generator,
    *,
    sample_rate: int = 16000,
) -> Waveform:
    """The waveform with random changes, as `options` says.

    Args:
        noises: waveforms at the same rate, none of them empty; one is drawn for each utterance with noise.
        impulse_responses: of rooms, likewise.
        sample_rate: of the waveform, in Hz; only the telephone and MP3 depend on it.
    Returns:
        (N',) float32, N' = round(N / speed); the same array if no change was drawn.
    Raises:
        ConfigError: noise or reverberation has a probability, but there are no sounds for it.
    """
    for name, probability, sounds in (
        ("noise_probability", options.noise_probability, noises),
        ("reverb_probability", options.reverb_probability, impulse_responses),
    ):
        if probability > 0 and not sounds:
            raise ConfigError(f"{name} is {probability}, so there must be sounds to draw from, but there are none")
    waveform = change_speed(waveform, _draw(options.speeds, rng))
    if rng.random() < options.reverb_probability:
        waveform = reverberate(waveform, _draw(impulse_responses, rng))
    if rng.random() < options.noise_probability:
        snr_db = rng.uniform(*options.noise_snr_db)
        waveform = add_noise(waveform, _draw(noises, rng), snr_db, rng)
    waveform = random_gain(waveform, options.gain_db, rng)
    # An unused option draws no number, so a new option does not change trainings without it.
    if options.telephone_probability and rng.random() < options.telephone_probability:
        waveform = telephone(waveform, sample_rate)
    if options.mp3_probability and rng.random() < options.mp3_probability:
        waveform = mp3(waveform, sample_rate, compression=rng.uniform(*MP3_COMPRESSION))
    return waveform


def change_speed(waveform: Waveform, factor: float) -> Waveform:
    """The waveform played `factor` times as fast: shorter and higher above 1, as a tape would (sox `speed`).

    Returns:
        (round(N / factor),) float32, band-limited against aliasing; the same array if factor is 1.
    """
    _check("waveform", waveform)
    if not 0 < factor < math.inf:
        raise InputError(f"a speed must be above 0, not {factor}")
    return waveform if factor == 1 else soxr.resample(waveform, factor, 1.0)


def add_noise(waveform: Waveform, noise: Waveform, snr_db: float, rng: np.random.Generator) -> Waveform:
    """The waveform plus a stretch of the noise, scaled to a signal-to-noise ratio.

        snr_db = 10 log10 (sum speech^2 / sum noise^2), over the whole waveform and the added stretch

    The stretch starts at random; a noise shorter than the waveform is looped. If one of them is silent, no scale gives
    this ratio, and the waveform is unchanged.

    Args:
        noise: (K,) float32 at the same rate, K > 0.
    Returns:
        (N,) float32; it may exceed [-1, 1].
    """
    _check("waveform", waveform)
    _check("noise", noise, empty=False)
    stretch = _stretch(noise, len(waveform), rng)
    speech_energy, noise_energy = _energy(waveform), _energy(stretch)
    if speech_energy == 0 or noise_energy == 0:
        return waveform
    scale = math.sqrt(speech_energy / noise_energy) * 10 ** (-snr_db / 20)
    return waveform + np.float32(scale) * stretch


def reverberate(waveform: Waveform, impulse_response: Waveform) -> Waveform:
    """The waveform in the room of the impulse response, with the same length and energy.

    The convolution is cut so that the peak of the response, the direct sound, is at lag 0: words keep their times, and
    the reverberation after the end is lost.

    Args:
        impulse_response: (K,) float32 at the same rate, K > 0, not silent; any level.
    """
    _check("waveform", waveform)
    _check("impulse_response", impulse_response, empty=False)
    peak = int(np.abs(impulse_response).argmax())
    if impulse_response[peak] == 0:
        raise InputError("an impulse response must not be silent, but all its samples are 0")
    full_length = len(waveform) + len(impulse_response) - 1
    fft_length = 1 << (full_length - 1).bit_length()
    spectrum = np.fft.rfft(waveform, fft_length) * np.fft.rfft(impulse_response, fft_length)
    wet = np.fft.irfft(spectrum, fft_length)[peak : peak + len(waveform)]
    wet_energy = _energy(wet)
    if wet_energy == 0:
        return waveform
    return (wet * math.sqrt(_energy(waveform) / wet_energy)).astype(np.float32)


def add_pause(waveform: Waveform, max_samples: int, rng: np.random.Generator) -> Waveform:
    """The waveform with a pause before or after it, so that a model learns to transcribe silence as nothing.

    Half of the pauses are digital silence, as editors leave it; the rest white noise of -90 to -50 dB of full scale.

    Args:
        max_samples: length of the longest pause; all lengths are equally likely; 0: no pause.
    """
    _check("waveform", waveform)
    if not max_samples:
        return waveform
    num_samples = rng.integers(max_samples + 1)
    level = 0.0 if rng.random() < 0.5 else 10.0 ** (rng.uniform(-90.0, -50.0) / 20.0)
    pause = (level * rng.standard_normal(num_samples)).astype(np.float32)
    return np.concatenate((pause, waveform) if rng.random() < 0.5 else (waveform, pause))


def background(num_samples: int, noises: Sequence[Waveform], rng: np.random.Generator) -> Waveform:
    """Noise without speech: generated, or with probability 1/2 one of `noises`, if there are any.

    Generated noise has power f^-a at frequency f, with a drawn evenly from 0 (white) to 2 (brown). The level is drawn
    evenly from -90 to -10 dB of full scale (root mean square).

    Args:
        noises: waveforms, none of them empty or silent; one that is too short is looped.
    """
    if not num_samples:
        return np.zeros(0, dtype=np.float32)
    noise: NDArray[np.floating]
    if noises and rng.random() < 0.5:
        noise = _stretch(_draw(noises, rng), num_samples, rng)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(num_samples))
        frequency = np.maximum(np.arange(len(spectrum)), 1.0)
        noise = np.fft.irfft(spectrum * frequency ** (-rng.uniform(0.0, 2.0) / 2.0), num_samples)
    level = 10.0 ** (rng.uniform(-90.0, -10.0) / 20.0)
    power = _energy(noise) / num_samples
    return (noise * (level / math.sqrt(power) if power else 0.0)).astype(np.float32)


def random_gain(waveform: Waveform, gain_db: tuple[float, float], rng: np.random.Generator) -> Waveform:
    """The waveform with a gain drawn evenly from a range in dB; it may exceed [-1, 1]. The same array if it is 0 dB."""
    _check("waveform", waveform)
    gain = rng.uniform(*gain_db)
    return waveform if gain == 0 else waveform * np.float32(10 ** (gain / 20))


def telephone(waveform: Waveform, sample_rate: int) -> Waveform:
    """The waveform after a telephone line: nothing above 4 kHz, 8 bits a sample on G.711's scale (mu-law).

    Its lower cut-off, 300 Hz in a handset and none in a computer, is not simulated; see `draw_masks`.

    Args:
        waveform: samples outside [-1, 1] are clipped.
        sample_rate: in Hz, at least 8000.
    Source: ITU-T Recommendation G.711.
    """
    _check("waveform", waveform)
    if sample_rate < TELEPHONE_RATE:
        raise InputError(f"a telephone line needs at least {TELEPHONE_RATE} Hz, not {sample_rate}")
    if not len(waveform):
        return waveform
    line = soxr.resample(waveform, sample_rate, TELEPHONE_RATE)
    coding = {"samplerate": TELEPHONE_RATE, "format": "RAW", "subtype": "ULAW"}
    coded = io.BytesIO()
    soundfile.write(coded, line, **coding)
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float32", channels=1, **coding)
    return _fit(soxr.resample(decoded, TELEPHONE_RATE, sample_rate), len(waveform))


def mp3(waveform: Waveform, sample_rate: int, *, compression: float) -> Waveform:
    """The waveform after MP3 coding, at the same times.

    Args:
        sample_rate: in Hz, one of MP3's: 8000, 11025, 12000, or 2 or 4 times one of them.
        compression: 0 (best) to 0.99, libsndfile's scale.
    """
    _check("waveform", waveform)
    if not len(waveform):
        return waveform
    file = io.BytesIO()
    try:
        soundfile.write(file, waveform, sample_rate, format="MP3", compression_level=compression)
        file.seek(0)
        decoded, _ = soundfile.read(file, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"libsndfile {soundfile.__libsndfile_version__} cannot write MP3 of {sample_rate} Hz at compression "
            f"{compression:g}: {error.error_string}"
        ) from error
    return _fit(decoded, len(waveform))


def draw_masks(
    features: Tensor, lengths: Tensor, options: AugmentOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The frames and bins to hide, on the generator's device, for `hide`.

    Each utterance has its own masks. Their widths are drawn evenly from 0 to the largest allowed, their places evenly
    inside the utterance without padding. A time mask hides at most `time_mask_max_frames` frames; all time masks hide
    at most `time_mask_max_fraction` of the utterance. Masks may overlap. Time is not warped. Masking bands makes sense
    for log-mel features, not for deltas or cepstra.

    Args:
        features: (B, T, M) floating point, normalised to mean 0.
        lengths: (B,) int64 frames, on any device.
        options: numbers and sizes of masks.
        generator: on any device; on one device, generators in the same state give the same masks.
    Returns:
        Hidden frames (B, T) and hidden bins (B, M), bool.
    Raises:
        InputError: shapes do not agree.
    """
    if features.ndim != 3 or lengths.shape != features.shape[:1]:
        raise InputError(
            f"features must be (batch, frames, bins) with one length each, not {tuple(features.shape)} and "
            f"{tuple(lengths.shape)}"
        )
    batch, num_frames, num_bins = features.shape
    lengths = lengths.to(generator.device)
    frames, bins = (
        torch.zeros(batch, size, dtype=torch.bool, device=generator.device) for size in (num_frames, num_bins)
    )
    if options.time_masks:
        largest = (lengths * options.time_mask_max_fraction / options.time_masks).long()
        largest = largest.clamp(max=options.time_mask_max_frames)
        frames = _masks(lengths, largest, options.time_masks, num_frames, generator)
    if options.frequency_masks:
        all_bins = torch.full_like(lengths, num_bins)
        largest = all_bins.clamp(max=options.frequency_mask_max_bins)
        bins = _masks(all_bins, largest, options.frequency_masks, num_bins, generator)
    return frames, bins


def hide(features: Tensor, frames: Tensor, bins: Tensor) -> Tensor:
    """Features (B, T, M) with 0 in the marked frames (B, T) and bins (B, M)."""
    frames, bins = frames.to(features.device), bins.to(features.device)
    return features.masked_fill(frames[:, :, None] | bins[:, None, :], 0.0)


def read_sounds(folder: str | Path, sample_rate: int) -> list[Waveform]:
    """The sound files below a folder (noises, impulse responses), in the order of their paths; none for "".

    All stay in memory: 230 MB an hour at 16 kHz. Sound files are recognised by their suffix, one of `SOUND_SUFFIXES`.

    Args:
        folder: searched with its subfolders.
        sample_rate: of the result, in Hz.
    Raises:
        DataError: the folder is missing or has no sound files, or a file is damaged, empty or silent.
    """
    if not folder:
        return []
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("must be a folder of sound files, but is not a folder", path=folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUND_SUFFIXES and path.is_file())
    if not paths:
        raise DataError("the folder must hold sound files (.wav, .flac, .opus ...), but holds none", path=folder)
    sounds = []
    for path in paths:
        sound = read_audio(path, sample_rate=sample_rate)
        if not sound.any():
            raise DataError("a noise or impulse response must not be silent or empty; remove the file", path=path)
        sounds.append(sound)
    return sounds


def _stretch(noise: Waveform, length: int, rng: np.random.Generator) -> Waveform:
    """`length` samples of the noise from a random start; a shorter noise is looped."""
    if len(noise) < length:
        return np.resize(np.roll(noise, -rng.integers(len(noise))), length)
    start = rng.integers(len(noise) - length + 1)
    return noise[start : start + length]


def _fit(waveform: Waveform, length: int) -> Waveform:
    """`length` samples: cut off a few, or append zeros, where a codec or a resampler rounded."""
    return np.pad(waveform[:length], (0, max(length - len(waveform), 0)))


def _masks(lengths: Tensor, largest: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """(B, size) bool: the union of `count` stretches in each [0, length), each of 0 to `largest` (B,) positions."""
    width = _uniform(largest[:, None].expand(-1, count), generator)
    start = _uniform(lengths[:, None] - width, generator)  # (B, count)
    position = torch.arange(size, device=lengths.device)[None, None]
    return ((position >= start[:, :, None]) & (position < (start + width)[:, :, None])).any(dim=1)


def _uniform(highest: Tensor, generator: torch.Generator) -> Tensor:
    """Integers drawn evenly from 0 to `highest`, included, element by element; exact, unlike scaled floats."""
    draws = torch.randint(2**62, highest.shape, generator=generator, device=generator.device)
    return draws.to(highest.device) % (highest + 1)


def _draw(choices: Sequence[Choice], rng: np.random.Generator) -> Choice:
    return choices[int(rng.integers(len(choices)))]


def _energy(waveform: NDArray[np.floating]) -> float:
    """Sum of squares, in float64."""
    samples = waveform.astype(np.float64)
    return float(samples @ samples)


def _check(name: str, waveform: Waveform, *, empty: bool = True) -> None:
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise InputError(f"{name} must be (samples,) floating point, not {waveform.shape} {waveform.dtype}")
    if not empty and not len(waveform):
        raise InputError(f"{name} must hold at least one sample, but it is empty")

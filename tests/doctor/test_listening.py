"""What is measured of sound against plain formulas over the whole of it; damage against files damaged by hand."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.doctor import listening
from asr.doctor.containers import flac_ends_early, ogg_damage
from asr.doctor.listening import Job, Measurement, SoundFacts, Stretch, decibels, listen, listen_to_all
from tests.audio.test_waveform import needs_ffmpeg
from tests.doctor.voices import SAMPLE_RATE, voice


def measured(
    path: Path, *stretches: tuple[float, float], channel: int = 0, model_rate: int | None = None
) -> Measurement:
    jobs = tuple(Stretch(start_seconds=s, duration_seconds=d, channel=channel) for s, d in stretches)
    return listen(Job(path=str(path), stretches=jobs, model_rate=model_rate))


def test_a_stretch_is_measured_as_if_it_were_in_memory(tmp_path: Path, rng: np.random.Generator) -> None:
    """In blocks, since the file is longer than one of them, and with two stretches that overlap."""
    samples = 0.1 + voice(rng, seconds=40.0)
    samples[300_000:300_007] = 0.9
    soundfile.write(tmp_path / "a.wav", np.stack([0 * samples, samples], axis=1), SAMPLE_RATE, subtype="PCM_16")
    stored = soundfile.read(tmp_path / "a.wav")[0][:, 1]
    result = measured(tmp_path / "a.wav", (0.5, 39.0), (10.0, 10.0), (50.0, 1.0), channel=1, model_rate=8000)
    assert (result.file.sample_rate, result.file.num_channels, result.file.num_samples) == (SAMPLE_RATE, 2, 640_000)
    assert result.sounds[2] is None and result.waveforms[2] is None
    for sound, waveform, (start, end) in zip(
        result.sounds, result.waveforms, [(8000, 632_000), (160_000, 320_000)], strict=False
    ):
        part = stored[start:end]
        assert isinstance(sound, SoundFacts) and waveform is not None
        assert sound.num_samples == len(part) and len(waveform) == len(part) / 2
        assert sound.peak == pytest.approx(np.abs(part).max())
        assert sound.offset == pytest.approx(part.mean())
        assert sound.level == pytest.approx(part.std())
        windows = part[: len(part) // 400 * 400].reshape(-1, 400)
        assert sound.loudest == pytest.approx(windows.std(axis=1).max(), rel=0.05)  # blocks begin windows anew
        assert sound.clipped == 7 / len(part)


def test_the_same_sound_in_another_file_has_the_same_digest(tmp_path: Path, rng: np.random.Generator) -> None:
    samples = (2.0**15 * voice(rng)).astype(np.int16)
    for name in ("a.wav", "b.flac", "c.aiff"):
        soundfile.write(tmp_path / name, samples, SAMPLE_RATE, subtype="PCM_16")
    samples[5000] += 1
    soundfile.write(tmp_path / "d.wav", samples, SAMPLE_RATE, subtype="PCM_16")
    names = ("a.wav", "b.flac", "c.aiff", "d.wav")
    digests = [measured(tmp_path / name, (0.0, 9.0)).sounds[0].digest for name in names]  # type: ignore
    assert digests[0] == digests[1] == digests[2] != digests[3]


@pytest.mark.parametrize(
    ("samples", "num_level"),
    [([0.0, 0.5, 0.5, 0.0], 0), ([0.5, 0.5, 0.5, 0.0], 3), ([-0.5, 0.5, 0.5, 0.5, 0.5, -0.5, -0.5, -0.5], 7),
     ([0.5, 0.5, 0.5, 0.6, 0.0], 0), ([1.0, 0.0, 1.0, 0.0], 2)],
)  # fmt: skip
def test_what_counts_as_clipped(tmp_path: Path, samples: list[float], num_level: int) -> None:
    """Three in a row at the extreme of either sign, or any at full scale."""
    soundfile.write(tmp_path / "a.wav", np.array(samples), SAMPLE_RATE, subtype="FLOAT")
    (sound,) = measured(tmp_path / "a.wav", (0.0, 1.0)).sounds
    assert sound is not None and sound.clipped == pytest.approx(num_level / len(samples))


def test_decibels() -> None:
    assert decibels(1.0) == 0.0 and decibels(0.1) == pytest.approx(-20.0) and decibels(0.0) == -np.inf


@pytest.mark.parametrize(("suffix", "subtype"), [(".flac", "PCM_16"), (".ogg", "VORBIS"), (".opus", "OPUS")])
def test_packed_sound_that_is_cut_off_or_damaged(tmp_path: Path, rng, seed: int, suffix: str, subtype: str) -> None:
    whole = tmp_path / f"a{suffix}"
    soundfile.write(
        whole, voice(rng, seconds=8.0), SAMPLE_RATE, format={".flac": "FLAC"}.get(suffix, "OGG"), subtype=subtype
    )
    content = whole.read_bytes()
    assert measured(whole, (0.0, 8.0)).file.damage == ""
    draw = random.Random(seed)
    for _ in range(15):
        damaged = bytearray(content)
        place = draw.randrange(len(content) // 3, len(content) * 2 // 3)
        damaged[place] ^= 1 << draw.randrange(8)
        whole.write_bytes(damaged)
        assert measured(whole, (0.0, 8.0)).file.damage == "corrupt"
        whole.write_bytes(content[:place])
        assert measured(whole, (0.0, 8.0)).file.damage == "truncated"
    whole.write_bytes(content)
    if suffix == ".flac":
        assert not flac_ends_early(whole)
    else:
        assert ogg_damage(whole) == ("", "")
        whole.write_bytes(content + b"trailing")
        assert ogg_damage(whole) == ("", "")
        whole.write_bytes(content + b"trailing" + content)
        assert ogg_damage(whole) == ("corrupt", f"no page of Ogg begins at byte {len(content)}")


@pytest.mark.parametrize(
    ("container", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
def test_several_sounds_in_a_file_are_heard_and_bytes_of_none_are_told(
    tmp_path: Path, rng, container: str, subtype: str
) -> None:
    path = tmp_path / "a"
    soundfile.write(path, voice(rng, seconds=2.0), SAMPLE_RATE, format=container, subtype=subtype)
    content = path.read_bytes()
    path.write_bytes(2 * content)
    file = measured(path, (0.0, 4.0)).file
    assert (file.damage, file.duration_seconds) == ("", 4.0)
    path.write_bytes(content + rng.bytes(20_000))
    file = measured(path, (0.0, 2.0)).file
    assert (file.damage, file.duration_seconds) == ("truncated", 2.0)
    assert file.reason == "20000 bytes that belong to no sound, within the sound or after it, are not read"


@pytest.mark.parametrize("count", range(10_000, 10_576, 144))
def test_an_mp3_whose_last_frame_is_padding_is_whole(tmp_path: Path, count: int) -> None:
    soundfile.write(tmp_path / "a.mp3", np.zeros(count), SAMPLE_RATE)
    file = measured(tmp_path / "a.mp3", (0.0, 1.0)).file
    assert (file.damage, file.num_samples) == ("", count)


def test_what_is_said_of_the_pages_of_ogg(tmp_path: Path, rng) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, voice(rng), SAMPLE_RATE)
    content = path.read_bytes()
    last = content.rindex(b"OggS")
    for damaged, found in (
        (content[:last], ("truncated", "no page is marked as the last one")),
        (content[: last + 20], ("truncated", f"the page at byte {last} is truncated")),
        (content[:-1], ("truncated", f"the page at byte {last} is truncated")),
        (content[:-1] + bytes([content[-1] ^ 1]), ("corrupt", f"the page at byte {last} has a wrong checksum")),
    ):
        path.write_bytes(damaged)
        file = measured(path, (0.0, 1.0)).file
        assert (file.damage, file.reason) == ogg_damage(path) == found


def test_rates_that_no_recording_has(tmp_path: Path, rng) -> None:
    soundfile.write(tmp_path / "slow.wav", voice(rng), 500)
    for rate in (16_000, 8_000):
        soundfile.write(tmp_path / f"{rate}.ogg", voice(rng, sample_rate=rate), rate)
    (tmp_path / "both.ogg").write_bytes(b"".join((tmp_path / f"{rate}.ogg").read_bytes() for rate in (16_000, 8_000)))
    for name, reason in (
        ("slow.wav", "the sample rate must be 1000 to 1000000 Hz; its header states 500"),
        ("both.ogg", "its rate or channels change after 1.000 s"),
    ):
        file = measured(tmp_path / name, (0.0, 1.0)).file
        assert (file.damage, file.reason) == ("corrupt", reason)


@needs_ffmpeg
def test_a_second_sound_track_is_no_damage(tmp_path: Path, rng) -> None:
    soundfile.write(tmp_path / "a.wav", voice(rng), SAMPLE_RATE)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-map", "0", "-map", "0", tmp_path / "a.mka"]
    subprocess.run(command, check=True)
    file = measured(tmp_path / "a.mka", (0.0, 1.0)).file
    assert (file.damage, file.num_channels) == ("", 1)


def test_a_file_that_cannot_be_opened(tmp_path: Path, rng) -> None:
    """The system's own answer where a process has all the files open that it may have."""
    soundfile.write(tmp_path / "a.wav", voice(rng), SAMPLE_RATE)
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(tmp_path / "a.wav", "rb") as file:
        lowest_free = file.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        file_facts = measured(tmp_path / "a.wav", (0.0, 1.0)).file
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (file_facts.damage, file_facts.reason) == ("missing", "it cannot be opened: Too many open files")


def deadly(number: int):
    """In place of the listener of a process: a file named so kills it, as a fault of a decoder would."""

    def listen_or_die(task: list[tuple[int, Job]]) -> list[tuple[int, Measurement]]:
        if any("deadly" in job.path for _, job in task):
            os.kill(os.getpid(), signal.SIGKILL)
        return [(number, listen(job)) for number, job in task]

    return listen_or_die


def test_a_file_that_kills_its_decoder_is_corrupt_and_the_others_are_heard(tmp_path: Path, rng, monkeypatch) -> None:
    names = [f"{number}.wav" for number in range(10)] + ["deadly.wav"] + [f"{number}.wav" for number in range(11, 20)]
    for name in names:
        soundfile.write(tmp_path / name, voice(rng, seconds=0.2), SAMPLE_RATE)
    stretch = Stretch(start_seconds=0.0, duration_seconds=0.2, channel=0)
    jobs = [Job(path=str(tmp_path / name), stretches=(stretch,)) for name in names]
    expected = dict(listen_to_all(jobs, processes=1))
    monkeypatch.setattr(listening, "_make_listener", deadly)
    found = dict(listen_to_all(jobs, processes=2))
    assert found.keys() == expected.keys()
    assert found[10].file.damage == "corrupt"
    assert found[10].file.reason.startswith("decoding it kills the process: ")
    assert "was killed by SIGKILL" in found[10].file.reason
    assert found[10].sounds == (None,)
    assert {number: result for number, result in found.items() if number != 10} == {
        number: result for number, result in expected.items() if number != 10
    }

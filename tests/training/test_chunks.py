"""Chunks against a plain loop that computes each row alone, against whole utterances, and as a part of a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from asr.acoustic.config import ModelConfig
from asr.acoustic.model import AcousticModel
from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.acoustic.shapes import WhisperShape
from asr.ctc.loss import ctc_loss
from asr.errors import ConfigError
from asr.training import acoustic_loss
from asr.training.acoustic_loss import AcousticLoss
from asr.training.acoustic_task import AcousticTask, prepare_acoustic_task
from asr.training.batches import Batch, pad_labels
from asr.training.chunks import CHUNK, COSTLIEST, LEFT_CONTEXT, LOOK_AHEAD, Chunks, ChunkSizes, draw_sizes
from asr.training.config import AuxiliaryOptions, DataOptions, TrainingConfig

CPU = torch.device("cpu")
SIZES = ChunkSizes(chunk=0.4, left_context=0.3, look_ahead=0.2)  # seconds
WHOLE = ChunkSizes(chunk=60.0, left_context=1.0, look_ahead=1.0)
SNIPPED = FrontendOptions(sample_rate=8000, num_mel_bins=20, frame_length_ms=100.0, snip_edges=True)
SHAPES: dict[str, dict[str, EncoderOptions | FrontendOptions]] = {
    "convolutions and pooling": {
        "encoder": EncoderOptions(num_layers=3, hidden_size=8, time_strides=(2, 1), conv_channels=2, pool_after_layer=2)
    },
    "stacked frames": {
        "encoder": EncoderOptions(
            num_layers=2, hidden_size=8, reduction="stack", time_strides=(3,), pool_after_layer=0, dropout=0.0
        )
    },
    "fewer frames than fit": {
        "frontend": SNIPPED,
        "encoder": EncoderOptions(num_layers=1, hidden_size=8, time_strides=(1,), conv_channels=2, pool_after_layer=0),
    },
}


def make_task(config: TrainingConfig) -> AcousticTask:
    torch.manual_seed(0)
    return prepare_acoustic_task(config, device=CPU, note=lambda sentence: None)


def without_masks(config: TrainingConfig) -> TrainingConfig:
    return replace(config, augment=replace(config.augment, time_masks=0, frequency_masks=0))


def own_frames(model: AcousticModel, inputs: Tensor, sizes: ChunkSizes) -> list[Tensor]:
    """The log_probs of an utterance (N,) or (T, S), and the output of each layer: row by row, each computed alone.

    Rows are cut so that one frame more cannot be seen; frames of layers below the pooling are half as long.
    """
    options = model.config.encoder
    seconds = model.config.samples_per_frame / model.config.sample_rate
    chunk, left, look = (round(value / seconds) for value in (sizes.chunk, sizes.left_context, sizes.look_ahead))
    states = inputs.ndim == 2
    step = options.time_reduction if states else model.config.samples_per_frame
    length_of = options.output_length if states else model.config.output_length
    num_frames = length_of(len(inputs))
    if not states and model.config.frontend.snip_edges:
        look += 9  # a frame of 100 ms lacks 9 shifts at the end
    pieces: list[list[Tensor]] = []
    for begin in range(0, num_frames, chunk):
        first, after = max(begin - left, 0), begin + chunk + look
        row = inputs[first * step : len(inputs) if after >= num_frames else after * step]
        features, lengths = model.features(row[None], torch.tensor([len(row)]))
        log_probs, _, layers = model.encoder.forward_with_layers(features, lengths)
        kept = []
        for number, (hidden, _) in enumerate([(log_probs, None), *layers]):
            twice = 2 if 0 < number < options.pool_after_layer else 1
            end = (begin - first + chunk) * twice if begin + chunk < num_frames else None
            kept.append(hidden[0, (begin - first) * twice : end])
        pieces.append(kept)
    return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
def test_chunks_equal_a_loop_over_rows_that_are_computed_alone(
    tone_config: Callable[..., TrainingConfig], shape: str
) -> None:
    task = make_task(without_masks(tone_config(**SHAPES[shape])))
    task.modules.eval()
    batch = next(task.batches(0, start=0))
    log_probs, lengths, layers = task.objective._encoded(batch, torch.Generator(), SIZES)
    assert len(set(lengths.tolist())) > 2 < task.model.output_length(batch.inputs.shape[1]) // 10
    assert lengths.tolist() == [task.model.output_length(length) for length in batch.lengths.tolist()]
    for row, length in enumerate(batch.lengths.tolist()):
        expected = own_frames(task.model, batch.inputs[row, :length], SIZES)
        for (result, result_lengths), frames in zip([(log_probs, lengths), *layers], expected, strict=True):
            assert int(result_lengths[row]) == len(frames)
            torch.testing.assert_close(result[row, : len(frames)], frames, atol=2e-5, rtol=1e-4)
    whole, _, _ = task.objective._encoded(batch, torch.Generator(), None)
    assert (whole - log_probs[:, : whole.shape[1]])[0].abs().max() > 1e-3  # chunks do change the output


@pytest.mark.parametrize("shape", SHAPES)
def test_a_chunk_that_covers_everything_is_the_whole_with_its_masks(
    tone_config: Callable[..., TrainingConfig], shape: str
) -> None:
    task = make_task(tone_config(**SHAPES[shape]))
    task.modules.eval()
    batch = next(task.batches(0, start=0))
    whole, chunked = (
        task.objective._encoded(batch, torch.Generator().manual_seed(5), sizes) for sizes in (None, WHOLE)
    )
    pairs = zip([whole[:2], *whole[2]], [chunked[:2], *chunked[2]], strict=True)
    for (expected, expected_lengths), (result, lengths) in pairs:
        assert torch.equal(lengths, expected_lengths)
        for row, length in enumerate(lengths.tolist()):
            assert torch.equal(result[row, :length], expected[row, :length])


def test_rows_have_the_masks_of_their_places_in_the_utterance(
    tone_config: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tone_config()
    task = make_task(replace(config, augment=replace(config.augment, time_mask_max_fraction=0.5)))
    batch = next(task.batches(0, start=0))
    masks: list[tuple[Tensor, Tensor]] = []

    def spied(features: Tensor, frames: Tensor, bins: Tensor) -> Tensor:
        masks.append((frames, bins))
        assert frames.shape == features.shape[:2] and bins.shape == features[:, 0].shape
        return features

    monkeypatch.setattr(acoustic_loss, "hide", spied)
    for sizes in (None, SIZES):
        task.objective._encoded(batch, torch.Generator().manual_seed(5), sizes)
    (frames, bins), (row_frames, row_bins) = masks
    assert frames.any() and bins.any()
    row = 0
    for utterance, samples in enumerate(batch.lengths.tolist()):
        num_frames = task.model.output_length(samples)
        for begin in range(0, num_frames, 10):  # chunks of 0.4 s; frames of 40 ms, of 4 frames of features
            first, after = max(begin - 8, 0), begin + 10 + 5
            expected = frames[utterance, 4 * first : 4 * after if after < num_frames else (samples + 40) // 80]
            assert (
                torch.equal(row_frames[row, : len(expected)], expected) and not row_frames[row, len(expected) :].any()
            )
            assert torch.equal(row_bins[row], bins[utterance])
            row += 1
    assert row == len(row_frames)


def loop_loss(task: AcousticTask, batch: Batch, auxiliary: AuxiliaryOptions) -> Tensor:
    """The loss of a batch in chunks of `SIZES`, utterance by utterance."""
    totals, counts = [torch.zeros(()) for _ in range(3)], [0, 0]
    for row, (example, length) in enumerate(zip(batch.examples, batch.lengths.tolist(), strict=True)):
        log_probs, *layers = own_frames(task.model, batch.inputs[row, :length], SIZES)
        emissions = [(log_probs, example.labels)]
        emissions.append((task.model.encoder.output(layers[auxiliary.character_layer - 1]), example.labels))
        if example.phones is not None:
            emissions.append((task.objective.phones(layers[auxiliary.layer - 1]), example.phones))  # type: ignore[misc]
        for number, (emission, labels) in enumerate(emissions):
            targets, target_lengths = pad_labels([labels])
            lengths = torch.tensor([len(emission)])
            losses = ctc_loss(emission.log_softmax(dim=-1)[None], targets, lengths, target_lengths, blank=0)
            totals[number] = totals[number] + losses.sum()
        counts[0] += len(example.labels)
        counts[1] += len(example.phones or ())
    last, middle, phones = totals[0] / counts[0], totals[1] / counts[0], totals[2] / counts[1]
    characters = (1 - auxiliary.character_weight) * last + auxiliary.character_weight * middle
    return (1 - auxiliary.weight) * characters + auxiliary.weight * phones


def test_losses_and_gradients_equal_those_of_the_loop(
    tone_config: Callable[..., TrainingConfig], tone_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the characters on the layer below the pooling, and phones on the last."""
    auxiliary = AuxiliaryOptions(
        lexicon=str(tone_corpus / "lexicon.txt"), layer=2, weight=0.4, character_layer=1, character_weight=0.3
    )
    encoder = EncoderOptions(
        reduction="stack", time_strides=(2,), num_layers=2, hidden_size=12, dropout=0.0, pool_after_layer=2
    )
    config = without_masks(tone_config(auxiliary=auxiliary, encoder=encoder))
    task = make_task(replace(config, data=replace(config.data, chunked=1.0)))
    monkeypatch.setattr(acoustic_loss, "draw_sizes", lambda share, *, seed: SIZES)
    batch = next(  # some of its words are not in the lexicon
        batch for batch in task.batches(0, start=0) if len({example.phones is None for example in batch.examples}) == 2
    )
    result = task.loss(batch, generator=torch.Generator().manual_seed(1))
    expected = loop_loss(task, batch, auxiliary)
    assert result.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    parameters = dict(task.modules.named_parameters())
    gradients = torch.autograd.grad(result.loss, list(parameters.values()))
    expected_gradients = torch.autograd.grad(expected, list(parameters.values()))
    for name, gradient, other in zip(parameters, gradients, expected_gradients, strict=True):
        assert other.abs().max() > 0, name
        torch.testing.assert_close(gradient, other, atol=2e-6, rtol=1e-3, msg=name)


def test_the_rows_of_two_processes_add_up_to_the_batch(tone_config: Callable[..., TrainingConfig]) -> None:
    task = make_task(tone_config())
    batch = next(task.batches(0, start=0))
    shares = [slice(0, 2), slice(2, None)]
    parts = [
        Batch(examples=batch.examples[rows], inputs=batch.inputs[rows], lengths=batch.lengths[rows]) for rows in shares
    ]
    whole, *others = (task.objective.sums(each, torch.Generator().manual_seed(2), SIZES) for each in (batch, *parts))
    assert sum(each.loss.item() for each in others) == pytest.approx(whole.loss.item(), rel=1e-5)
    assert sum(each.frames for each in others) == whole.frames


def test_the_chunks_of_a_cache_are_cut_from_the_states_of_a_pretrained_encoder() -> None:
    torch.manual_seed(0)
    shape = WhisperShape(d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16)
    encoder = EncoderOptions(num_layers=2, hidden_size=8, reduction="stack", time_strides=(2,), pool_after_layer=0)
    frontend = FrontendOptions(whisper=shape, normalization="none")
    model = AcousticModel(ModelConfig(characters=("A", "B"), frontend=frontend, encoder=encoder)).eval()
    model.frontend.tune(1)  # the last layer attends to the frames of a row alone
    config = TrainingConfig(data=DataOptions(train=("a",), dev=("a",)), frontend=frontend, encoder=encoder)
    objective = AcousticLoss(
        torch.nn.ModuleDict({"model": model}), without_masks(config), device=CPU, precision=torch.float32
    )
    lengths = torch.tensor([101, 57, 1])
    states = torch.randn(3, 101, 16)
    batch = Batch(examples=(None,) * 3, inputs=states, lengths=lengths)  # type: ignore[arg-type]
    objective._masked = lambda features, *others: features  # type: ignore[method-assign]
    with torch.no_grad():
        log_probs, frames, _ = objective._encoded(batch, torch.Generator(), SIZES)
        assert frames.tolist() == [51, 29, 1]
        for row, length in enumerate(lengths.tolist()):
            expected, *_ = own_frames(model, states[row, :length], SIZES)
            torch.testing.assert_close(log_probs[row, : len(expected)], expected, atol=1e-5, rtol=1e-4)


def test_an_utterance_without_frames_stays_one() -> None:
    chunks = Chunks(torch.tensor([0, 5]), chunk=2, left_context=1, look_ahead=1)
    rows, lengths = chunks.cut(torch.arange(20.0).view(2, 10), torch.tensor([1, 9]), per_frame=2)
    assert lengths.tolist() == [1, 6, 7, 3] and rows[1:, 0].tolist() == [10.0, 12.0, 16.0]
    hidden = torch.arange(16.0).view(4, 4, 1)
    joined, joined_lengths = chunks.join(hidden, torch.tensor([0, 3, 4, 2]), per_frame=1)
    assert joined_lengths.tolist() == [0, 5] and joined[1, :, 0].tolist() == [4.0, 5.0, 9.0, 10.0, 13.0]
    alone = Chunks(torch.tensor([0]), chunk=2, left_context=1, look_ahead=1)
    joined, joined_lengths = alone.join(torch.zeros(1, 0, 3), torch.tensor([0]), per_frame=1)
    assert joined.shape == (1, 0, 3) and joined_lengths.tolist() == [0]


def test_sizes_are_drawn_in_their_ranges_for_a_share_of_the_batches() -> None:
    draws = [draw_sizes(0.25, seed=seed) for seed in range(4000)]
    sizes = [draw for draw in draws if draw]
    assert 0.22 < len(sizes) / len(draws) < 0.28
    assert draws == [draw_sizes(0.25, seed=seed) for seed in range(4000)]
    for name, (low, high) in {"chunk": CHUNK, "left_context": LEFT_CONTEXT, "look_ahead": LOOK_AHEAD}.items():
        values = np.array([getattr(draw, name) for draw in sizes])
        middle = (low + high) / 2 if name == "left_context" else math.sqrt(low * high)
        assert low <= values.min() < 1.1 * low and 0.9 * high < values.max() <= high
        assert np.mean(values < middle) == pytest.approx(0.5, abs=0.06)
    assert all(draw_sizes(0.0, seed=seed) is None for seed in range(100))
    assert all(draw_sizes(1.0, seed=seed) for seed in range(100))


def test_steps_draw_their_own_sizes_and_none_without_the_option(
    tone_config: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tone_config()
    task = make_task(replace(config, data=replace(config.data, chunked=0.5)))
    batch = next(task.batches(0, start=0))
    seen: list[ChunkSizes | None] = []
    sums = task.objective.sums

    def spied(batch: Batch, generator: torch.Generator, sizes: ChunkSizes | None) -> acoustic_loss.RowSums:
        seen.append(sizes)
        return sums(batch, generator, sizes)

    monkeypatch.setattr(task.objective, "sums", spied)
    results = [task.loss(batch, generator=torch.Generator().manual_seed(step)).loss.item() for step in range(12)]
    again = [task.loss(batch, generator=torch.Generator().manual_seed(step)).loss.item() for step in range(12)]
    assert results == again and seen[:12] == seen[12:]
    assert 3 <= seen[:12].count(None) <= 9 and len(set(seen)) == 13 - seen[:12].count(None)
    task.rehearse()
    assert seen[-1] == COSTLIEST
    plain = make_task(config)
    plain.modules.load_state_dict(task.modules.state_dict())
    losses = [plain.loss(batch, generator=torch.Generator().manual_seed(step)).loss.item() for step in range(12)]
    assert [loss for loss, sizes in zip(losses, seen, strict=False) if sizes is None] == [
        result for result, sizes in zip(results, seen, strict=False) if sizes is None
    ]
    assert all(
        loss != result
        for loss, result, sizes in zip(losses, results, seen, strict=False)
        if sizes and sizes.chunk + sizes.look_ahead < 1.0  # shorter than the utterances
    )


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=rf"^chunked must be between 0 and 1, not {share}$"):
        DataOptions(train=("a",), dev=("a",), chunked=share)

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from asr.ctc.loss import ctc_loss
from asr.errors import InputError
from tests.ctc.enumeration import labelling_probabilities, merge_and_drop


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20061)


def random_logits(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=dtype)


def integers(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def one_loss(emission: Tensor, tokens: tuple[int, ...], *, blank: int) -> Tensor:
    """The loss of one utterance as long as its emission (T, V)."""
    lengths = integers(len(emission)), integers(len(tokens))
    return ctc_loss(emission[None], integers(*tokens)[None], *lengths, blank=blank)[0]


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_every_labelling_has_its_enumerated_probability(generator, blank):
    for num_frames in range(1, 7):
        emission = random_logits(generator, num_frames, 3).log_softmax(-1)
        table = labelling_probabilities(emission.tolist(), blank=blank)
        for tokens, probability in table.items():
            assert math.exp(-one_loss(emission, tokens, blank=blank)) == pytest.approx(probability, rel=1e-10)


def test_four_labels_in_float32(generator):
    emission = random_logits(generator, 5, 4).log_softmax(-1)
    for tokens, probability in labelling_probabilities(emission.tolist(), blank=0).items():
        assert math.exp(-one_loss(emission.float(), tokens, blank=0)) == pytest.approx(probability, rel=1e-5)


def test_gradients_are_finite_differences_of_the_logits(generator):
    logits = random_logits(generator, 4, 6, 4).requires_grad_()
    targets = torch.tensor([[1, 1, 2], [3, 9, 9], [9, 9, 9], [2, 3, 1]])
    input_lengths, target_lengths = integers(6, 4, 5, 3), integers(3, 1, 0, 3)
    assert torch.autograd.gradcheck(
        lambda x: ctc_loss(x.log_softmax(-1), targets, input_lengths, target_lengths, blank=0), logits
    )


@pytest.mark.parametrize("blank", [0, 1, 2, 3])
def test_moving_the_blank_with_its_column_changes_nothing(generator, blank):
    logits = random_logits(generator, 2, 8, 4)
    expected_logits = logits.clone().requires_grad_()
    lengths = integers(8, 6), integers(3, 2)
    expected = ctc_loss(expected_logits.log_softmax(-1), torch.tensor([[1, 1, 3], [2, 3, 0]]), *lengths, blank=0)
    expected.sum().backward()

    order = [1, 2, 3]  # the old label of each new one
    order.insert(blank, 0)
    moved_logits = logits[..., order].requires_grad_()
    targets = torch.tensor([[order.index(old) for old in row] for row in ([1, 1, 3], [2, 3, 0])])
    moved = ctc_loss(moved_logits.log_softmax(-1), targets, *lengths, blank=blank)
    moved.sum().backward()
    torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(moved_logits.grad, expected_logits.grad[..., order])


def test_a_target_that_just_fits_has_one_path_and_a_longer_one_none(generator):
    emission = random_logits(generator, 7, 3).log_softmax(-1)
    tokens = (1, 1, 2, 2, 1)  # five labels and two repeats
    path = [1, 0, 1, 2, 0, 2, 1]
    assert one_loss(emission, tokens, blank=0).item() == pytest.approx(-sum(emission[range(7), path]).item())
    assert one_loss(emission[:6], tokens, blank=0).item() == math.inf


def test_empty_target_is_all_blank(generator):
    log_probs = random_logits(generator, 2, 5, 3).log_softmax(-1)
    losses = ctc_loss(log_probs, torch.zeros(2, 0, dtype=torch.int64), integers(5, 3), integers(0, 0), blank=1)
    torch.testing.assert_close(losses, torch.stack([-log_probs[0, :, 1].sum(), -log_probs[1, :3, 1].sum()]))


def test_empty_target_beside_a_full_one(generator):
    log_probs = random_logits(generator, 2, 30, 5).log_softmax(-1)
    labels = torch.randint(1, 5, (13,), generator=generator)
    losses = ctc_loss(log_probs, labels, integers(30, 30), integers(0, 13), blank=0)
    assert losses[0].item() == pytest.approx(-log_probs[0, :, 0].sum().item())
    torch.testing.assert_close(losses[1], one_loss(log_probs[1], tuple(labels.tolist()), blank=0))


def test_zero_frames(generator):
    logits = random_logits(generator, 3, 4, 3).requires_grad_()
    losses = ctc_loss(logits.log_softmax(-1), integers(1, 2), integers(0, 0, 4), integers(0, 1, 1), blank=0)
    assert losses[:2].tolist() == [0.0, math.inf]
    losses.sum().backward()
    assert (logits.grad[:2] == 0).all()
    assert logits.grad[2].abs().sum() > 0


def test_an_emission_without_frames_or_batch():
    none = torch.zeros(0, dtype=torch.int64)
    log_probs = torch.zeros(2, 0, 3, requires_grad=True)
    losses = ctc_loss(log_probs, integers(1), integers(0, 0), integers(0, 1), blank=0)
    assert losses.tolist() == [0.0, math.inf]
    losses[0].backward()
    assert log_probs.grad.shape == (2, 0, 3)
    assert ctc_loss(torch.zeros(0, 4, 3), none, none, none, blank=0).shape == (0,)


def test_impossible_utterances_leave_their_neighbours_alone(generator):
    logits = random_logits(generator, 4, 6, 3)
    targets = torch.tensor([[1, 2, 1, 0], [1, 1, 1, 1], [2, 2, 0, 0], [1, 2, 0, 0]])
    lengths = integers(6, 6, 6, 5), integers(3, 4, 2, 2)

    def log_probs_of(logits: Tensor) -> Tensor:
        # Utterance 3: label 2 has probability 0 everywhere, another way to have no path.
        mask = torch.zeros(4, 1, 3, dtype=torch.bool)
        mask[3, 0, 2] = True
        return logits.log_softmax(-1).masked_fill(mask, -math.inf)

    together = logits.clone().requires_grad_()
    losses = ctc_loss(log_probs_of(together), targets, *lengths, blank=0)
    assert losses.isinf().tolist() == [False, True, False, True]
    losses[losses.isfinite()].sum().backward()  # as the docstring tells a trainer
    assert (together.grad[[1, 3]] == 0).all()
    for row in (0, 2):
        alone = logits[row].clone().requires_grad_()
        tokens = tuple(targets[row, : lengths[1][row]].tolist())
        one_loss(alone.log_softmax(-1), tokens, blank=0).backward()
        torch.testing.assert_close(together.grad[row], alone.grad)

    summed = logits.clone().requires_grad_()
    ctc_loss(log_probs_of(summed), targets, *lengths, blank=0).sum().backward()  # inf, and yet:
    torch.testing.assert_close(summed.grad, together.grad, rtol=0, atol=0)


def test_nan_stays_in_its_utterance(generator):
    log_probs = random_logits(generator, 2, 5, 3).log_softmax(-1)
    log_probs[0, 2] = math.nan
    log_probs.requires_grad_()
    losses = ctc_loss(log_probs, integers(1, 2), integers(5, 5), integers(1, 1), blank=0)
    assert losses.isnan().tolist() == [True, False]
    losses[losses.isfinite()].sum().backward()
    assert (log_probs.grad[0] == 0).all()
    assert log_probs.grad[1].isfinite().all() and log_probs.grad[1].abs().sum() > 0


def reference_gradient(log_probs: Tensor, tokens: list[int]) -> Tensor:
    """(T, V) gradient of the loss, probabilities minus posteriors, from all paths in Python's float64."""
    scores, paths = [], []
    for path in itertools.product(range(log_probs.shape[1]), repeat=log_probs.shape[0]):
        if list(merge_and_drop(path, blank=0)) == tokens:
            paths.append(path)
            scores.append(sum(row[label] for row, label in zip(log_probs.tolist(), path, strict=True)))
    shares = torch.tensor(scores, dtype=torch.float64).softmax(0)
    posteriors = torch.zeros(log_probs.shape, dtype=torch.float64)
    for path, share in zip(paths, shares, strict=True):
        posteriors[range(len(path)), list(path)] += share
    return log_probs.double().exp() - posteriors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [-1e3, -1e6, -1e8, -1e30, -math.inf])
@pytest.mark.parametrize("tokens", [[1, 2], [1, 1]])
def test_huge_logits_have_the_gradient_of_all_paths(generator, dtype, size, tokens):
    logits = random_logits(generator, 5, 4, dtype=dtype)
    for masked in ([(0, 3), (2, 3)], [(0, 1), (3, 2), (1, 0)], [(frame, 2) for frame in range(5)]):
        leaf = logits.clone()
        for place in masked:
            leaf[place] = size
        leaf.requires_grad_()
        log_probs = leaf.log_softmax(-1)
        loss = one_loss(log_probs, tuple(tokens), blank=0)
        loss.backward()
        if len(masked) == 5 and 2 in tokens and size <= -1e30:  # a probability of zero, which all paths need
            assert loss.item() == math.inf
            assert (leaf.grad == 0).all()
        else:
            expected = reference_gradient(log_probs.detach(), tokens)
            assert loss.isfinite()
            torch.testing.assert_close(leaf.grad.double(), expected, rtol=0, atol=2e-4)


def test_an_utterance_with_a_huge_loss_leaves_its_neighbours_alone(generator):
    logits = random_logits(generator, 3, 6, 4, dtype=torch.float32)
    logits[1, :, 2] = -1e10
    targets, lengths = torch.tensor([[1, 2], [2, 1], [3, 0]]), (integers(6, 6, 5), integers(2, 2, 1))
    together = logits.clone().requires_grad_()
    losses = ctc_loss(together.log_softmax(-1), targets, *lengths, blank=0)
    assert losses[1].item() == pytest.approx(1e10)
    (losses * torch.tensor([1.0, 0.5, 2.0])).sum().backward()
    for row, weight in enumerate((1.0, 0.5, 2.0)):
        alone = logits[row, : lengths[0][row]].clone().requires_grad_()
        tokens = tuple(targets[row, : lengths[1][row]].tolist())
        one_loss(alone.log_softmax(-1), tokens, blank=0).backward()
        torch.testing.assert_close(together.grad[row, : len(alone)], weight * alone.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding", [0.0, -50.0, math.nan, math.inf])
def test_frames_past_the_length_count_for_nothing(generator, padding):
    log_probs = random_logits(generator, 2, 7, 4).log_softmax(-1)
    targets, lengths = torch.tensor([[1, 2], [3, 3]]), (integers(7, 4), integers(2, 2))
    log_probs[1, 4:] = padding
    log_probs.requires_grad_()
    losses = ctc_loss(log_probs, targets, *lengths, blank=0)
    losses.sum().backward()
    torch.testing.assert_close(losses[1], one_loss(log_probs.detach()[1, :4], (3, 3), blank=0))
    assert (log_probs.grad[1, 4:] == 0).all()
    assert (log_probs.grad[1, :4] != 0).any(dim=-1).all()


def test_padded_and_concatenated_targets_of_any_integer_type_are_alike(generator):
    log_probs = random_logits(generator, 3, 9, 4, dtype=torch.float32).log_softmax(-1)
    lengths = integers(9, 8, 7), integers(2, 0, 3)
    padded = torch.tensor([[1, 1, -7], [99, 0, -1], [3, 2, 3]])
    expected = ctc_loss(log_probs, padded, *lengths, blank=0)
    for targets in (padded.to(torch.int32), integers(1, 1, 3, 2, 3), torch.tensor([1, 1, 3, 2, 3], dtype=torch.int32)):
        assert torch.equal(ctc_loss(log_probs, targets, *(t.to(torch.int32) for t in lengths), blank=0), expected)


def test_layout_in_memory_does_not_matter(generator):
    logits = random_logits(generator, 2, 9, 4)
    time_first = logits.transpose(0, 1).contiguous().transpose(0, 1)
    results = []
    for values in (logits.clone(), time_first):
        assert values.is_contiguous() == (values is not time_first)
        values.requires_grad_()
        losses = ctc_loss(values.log_softmax(-1), integers(1, 2, 3), integers(9, 8), integers(2, 1), blank=0)
        losses.sum().backward()
        results.append((losses.detach(), values.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=0)


def test_inputs_are_left_unchanged(generator):
    log_probs = random_logits(generator, 2, 5, 3).log_softmax(-1).requires_grad_()
    inputs = log_probs, torch.tensor([[1, 1], [2, -1]]), integers(5, 4), integers(2, 1)
    before = [tensor.detach().clone() for tensor in inputs]
    ctc_loss(*inputs, blank=0).sum().backward()
    assert all(torch.equal(tensor.detach(), copy) for tensor, copy in zip(inputs, before, strict=True))


def test_autocast_does_not_lower_the_precision(generator):
    log_probs = random_logits(generator, 1, 9, 4, dtype=torch.float32).log_softmax(-1)
    arguments = log_probs, integers(1, 2), integers(9), integers(2)
    expected = ctc_loss(*arguments, blank=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ctc_loss(*arguments, blank=0), expected)


def test_lists_arrays_and_one_utterance_are_taken_as_torch_takes_them(generator):
    log_probs = random_logits(generator, 2, 6, 4).log_softmax(-1)
    expected = ctc_loss(log_probs, torch.tensor([[1, 2, 2], [3, 0, 0]]), integers(6, 4), integers(3, 1), blank=0)
    for targets in ([[1, 2, 2], [3, 0, 0]], [1, 2, 2, 3], np.array([1, 2, 2, 3]), np.array([[1, 2, 2], [3, 0, 0]])):
        for lengths in (([6, 4], [3, 1]), ((6, 4), (3, 1)), (np.array([6, 4]), np.array([3, 1]))):
            assert torch.equal(ctc_loss(log_probs, targets, *lengths, blank=0), expected)
    assert ctc_loss(log_probs, [], [6, 4], [0, 0], blank=0).shape == (2,)
    alone = log_probs[0].clone().requires_grad_()
    for lengths in ((6, 3), (torch.tensor(6), torch.tensor(3)), ([6], [3]), (integers(6), integers(3))):
        loss = ctc_loss(alone, integers(1, 2, 2), *lengths, blank=0)
        assert torch.equal(loss, expected[0])
        as_tensors = [torch.as_tensor(each).reshape(()) for each in lengths]
        torch.testing.assert_close(
            loss, torch.nn.functional.ctc_loss(alone, integers(1, 2, 2), *as_tensors, blank=0, reduction="none")
        )
    loss.backward()
    assert alone.grad.shape == (6, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_precisions_are_refused(dtype):
    with pytest.raises(InputError, match=f"float32 or float64 .*before log_softmax.* in {dtype}"):
        ctc_loss(torch.zeros(1, 2, 3, dtype=dtype), integers(1), integers(2), integers(1), blank=0)


GOOD = {
    "log_probs": torch.zeros(2, 5, 4),
    "targets": torch.tensor([[1, 2, 3], [1, 0, 0]]),
    "input_lengths": integers(5, 4),
    "target_lengths": integers(3, 1),
    "blank": 0,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_probs": torch.zeros(5)}, r"log_probs must be \(B, T, V\), or \(T, V\), .* got shape \(5,\)"),
        ({"log_probs": np.zeros((2, 5, 4))}, r"log_probs must be a torch tensor, .*; got <class 'numpy.ndarray'>"),
        (
            {"log_probs": torch.zeros(5, 4)},
            r"targets must be \(U,\), and .* one integer, for log_probs \(T, V\); got \(2, 3\), \(2,\) and \(2,\)",
        ),
        (
            {"targets": [[1, 2], [1]]},
            r"targets must hold integers, in rows of the same length; got \[\[1, 2\], \[1\]\]",
        ),
        ({"input_lengths": ["a", "b"]}, r"input_lengths must hold integers, .*; got \['a', 'b'\]"),
        ({"input_lengths": [5.0, 4.0]}, "input_lengths must hold integers; got torch.float32"),
        ({"log_probs": torch.zeros(3, 5, 4)}, "log_probs holds 3 utterances but input_lengths 2"),
        ({"blank": 4}, r"blank must be one of the 4 labels, 0 \.\. 3; got 4"),
        ({"blank": -1}, "blank must be one of the 4 labels"),
        ({"targets": torch.ones(2, 3)}, "targets must hold integers; got torch.float32"),
        ({"input_lengths": torch.ones(2)}, "input_lengths must hold integers; got torch.float32"),
        ({"target_lengths": torch.ones(2) > 0}, "target_lengths must hold integers; got torch.bool"),
        ({"input_lengths": integers(5, 6)}, r"input_lengths\[1\] must be at most the 5 frames of log_probs; got 6"),
        ({"input_lengths": integers(-1, 5)}, r"input_lengths\[0\] must not be negative; got -1"),
        ({"target_lengths": integers(3, -2)}, r"target_lengths\[1\] must not be negative; got -2"),
        ({"target_lengths": integers(4, 1)}, r"target_lengths\[0\] must be at most the 3 columns of targets; got 4"),
        ({"target_lengths": integers(3)}, r"must both be \(B,\); got \(2,\) and \(1,\)"),
        ({"input_lengths": integers(5, 4)[None], "target_lengths": integers(3, 1)[None]}, r"must both be \(B,\)"),
        ({"targets": integers(1, 2, 3)}, "must sum to the 3 labels of the concatenated targets; their sum is 4"),
        ({"targets": torch.ones(3, 3, dtype=torch.int64)}, r"targets must be \(B, U\) with B = 2, .* shape \(3, 3\)"),
        ({"target_lengths": integers(3, 2)}, r"targets\[1\] .* other than the blank, 0; label 1 of it is 0"),
        ({"blank": 2}, r"targets\[0\] .* other than the blank, 2; label 1 of it is 2"),
        ({"targets": integers(1, 2, 3, 4)}, r"targets\[1\] must hold labels in 0 \.\. 3 .* label 0 of it is 4"),
        ({"targets": integers(1, 2, -3, 1)}, r"targets\[0\] .* label 2 of it is -3"),
        (
            {"targets": integers(1, 2, 0), "target_lengths": integers(0, 3)},
            r"targets\[1\] .* label 2 of it is 0",
        ),
    ],
)
def test_malformed_batches_are_refused(change, message):
    ctc_loss(**GOOD)
    with pytest.raises(InputError, match=message):
        ctc_loss(**(GOOD | change))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_native_cuda_equals_cpu_and_never_takes_cudnn(generator):
    logits = random_logits(generator, 4, 50, 6, dtype=torch.float32)
    targets = torch.randint(1, 6, (4, 12), generator=generator)
    # Equal lengths, short targets and blank 0 are what would make a batch eligible for cuDNN; the third has no path.
    results = []
    for device in ("cpu", "cuda"):
        moved = logits.detach().to(device).clone().requires_grad_()
        lengths = integers(50, 50, 10, 50), integers(12, 12, 12, 0)
        with torch.profiler.profile() as profile:
            losses = ctc_loss(moved.log_softmax(-1), targets, *lengths, blank=0, backend="native")
            losses[losses.isfinite()].sum().backward()
        assert not any("cudnn_ctc_loss" in event.key and "use" not in event.key for event in profile.key_averages())
        results.append((losses.detach().cpu(), moved.grad.cpu()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_takes_its_targets_from_either_device(generator):
    log_probs = random_logits(generator, 2, 9, 4, dtype=torch.float32).log_softmax(-1).cuda()
    arguments = integers(1, 2, 3), integers(9, 8), integers(2, 1)
    expected = ctc_loss(log_probs, *arguments, blank=0, backend="native")
    moved = [tensor.cuda() for tensor in arguments]
    assert torch.equal(ctc_loss(log_probs, *moved, blank=0, backend="native"), expected)

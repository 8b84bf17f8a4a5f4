"""Forced alignment: the most probable path through an emission that collapses to given labels.

The Viterbi recursion in float64 on a lattice of 2U + 1 states, Φ before, between and after the U labels:

    blank[t, u] = max(blank[t-1, u], label[t-1, u-1]) + log p(Φ at t)
    label[t, u] = max(label[t-1, u], blank[t-1, u], label[t-1, u-1] if the two labels differ) + log p(label u at t)

Only the scores of every k-th frame are stored, k = √T, and no back-pointers. Going back from the end, the k frames
before a known state are computed again, for the k labels that can lead to it:

    labels ▲            ╭┤ end      stored: the columns │, T/k of them, of 2U + 1 scores each
           │     │   ╭─╯▒│          again:  the wedges ▒ of k frames and at most k labels
           │     │╭─╯▒▒▒▒│          an hour of sound with 50,000 labels takes one pass and 250 MB,
           │  ╭─╯┤▒▒▒▒▒▒▒│          with the same result as if all had been stored
           └──────────────▶ frames

States that the start cannot reach, or that cannot reach the end, are left out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from asr import ctc
from asr.compute.machine_code import Kernels
from asr.ctc.collapse import minimum_frames
from asr.errors import InputError

if TYPE_CHECKING:
    import torch

_HIGHEST = 0.01  # half precision rounds a log-probability of 0 up to this; logits and probabilities are larger
_LOG_ZERO = -math.inf
_Results: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Results of a batch: paths (B, T) int64, spans (B, U, 2) int64, token_scores (B, U) float64, scores (B,) float64."""
_FEW = 2**16  # store all pairs of scores up to this number, 1 MB
_WORTH_A_THREAD = 2**19  # frames x labels, half a millisecond


def _compiled_functions() -> Sequence[Any]:
    from asr.ctc.alignment_kernel import KERNELS

    return KERNELS


_kernels = Kernels(_compiled_functions, room=ctc)


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """The most probable path of T frames that collapses to U given labels.

    Args:
        path: (T,) int64, one label per frame, blanks included; frames in a gap count as blanks.
        spans: (U, 2) int64, the frames [start, end) of each label; in order, without overlap, none empty.
        token_scores: (U,) float64, the mean natural log-probability of each label over its span.
        score: natural log-probability of the path, the sum over its T frames; 0 if there are none.
    """

    path: np.ndarray
    spans: np.ndarray
    token_scores: np.ndarray
    score: float

    @property
    def confidences(self) -> np.ndarray:
        """(U,) in 0 .. 1, the geometric mean of each label's posteriors over its span."""
        return np.exp(np.minimum(self.token_scores, 0.0))  # log_softmax may round to a little above 0


def align(log_probs: Any, labels: Any, *, blank: int, gaps: Any = (), gap_score: float = -1.0) -> Alignment:
    """The most probable path that collapses to the labels, with the frames and the score of each label.

    Ties are broken from the end backwards: stay in the state if possible; otherwise come from Φ. The path ends in the
    last label rather than in Φ. `torchaudio.functional.forced_align` does the same with one exception: where Φ and the
    label before it tie and are both better than staying, it stays, which is not the best path.

    A gap is a position between labels where sound without labels may occur: Φ there scores at least `gap_score` in
    every frame. With `gaps=(0, len(labels))`, speech at the edges of a recording that is missing in its text is
    skipped.

    Args:
        log_probs: (T, V) floating natural log-probabilities: a NumPy array or a torch tensor; T may be 0. A CUDA tensor
            is aligned on its GPU.
        labels: (U,) integers without blanks; U may be 0.
        blank: index of the blank label, 0 <= blank < V.
        gaps: positions of the gaps, in 0 .. U; u is before labels[u], U is after the last label.
        gap_score: natural log-probability, at most 0, of a frame of a gap.
    Raises:
        InputError: a shape, dtype, label, gap or the blank is not as above; log_probs holds NaN or a positive number;
            there are too few frames for the labels and a blank between equal ones; or every path has a log-probability
            of -inf.
    Source: Graves 2012, "Supervised Sequence Labelling with Recurrent Neural Networks", section 7.3.1 (the lattice),
        with the maximum for the sum; checkpoints as in Hirschberg 1975.
    """
    emission = _checked_emission(log_probs, shape="(T, V)", num_axes=2)
    num_frames, num_labels = emission.shape
    tokens = _checked_labels(labels, num_frames, num_labels, blank=blank)
    floor = np.full(len(tokens) + 1, _LOG_ZERO)
    if len(gaps):
        floor[checked_gaps(gaps, gap_score, len(tokens))] = gap_score
    (alignment,) = _align(
        emission[None],
        tokens[None],
        np.array([num_frames]),
        np.array([len(tokens)]),
        blank=blank,
        floor=floor,
        num_threads=1,
    )
    return alignment


def align_batch(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    *,
    blank: int,
    num_threads: int | None = None,
) -> list[Alignment]:
    """The alignment of each utterance of a ragged batch, the same as from `align`.

    Args:
        log_probs: (B, T, V) as for `align`; frames past an utterance's length may hold anything.
        targets: (B, U) integers, padded with anything.
        input_lengths: (B,) integers, 0 <= input_lengths[b] <= T.
        target_lengths: (B,) integers, 0 <= target_lengths[b] <= U.
        blank: index of the blank label, 0 <= blank < V.
        num_threads: for a batch on the CPU; None takes one for each processor.
    Raises:
        InputError: as for `align`, with the row of the batch; or a length is out of its range.
    """
    emissions = _checked_emission(log_probs, shape="(B, T, V)", num_axes=3)
    batch_size, most_frames, num_labels = emissions.shape
    tokens = _integers(targets, name="targets")
    if tokens.ndim != 2 or len(tokens) != batch_size:
        raise InputError(f"targets must be (B, U) with the B of log_probs, {batch_size}; got shape {tokens.shape}")
    frames = _checked_lengths(input_lengths, batch_size, most_frames, name="input_lengths")
    lengths = _checked_lengths(target_lengths, batch_size, tokens.shape[1], name="target_lengths")
    inside = np.arange(tokens.shape[1]) < lengths[:, None]
    tokens = np.where(inside, tokens, -1)
    _check_blank(blank, num_labels)
    wrong = inside & ((tokens < 0) | (tokens >= num_labels) | (tokens == blank))
    needed = lengths + ((tokens[:, 1:] == tokens[:, :-1]) & inside[:, 1:]).sum(axis=1)
    for row in np.flatnonzero(wrong.any(axis=1) | (needed > frames)):
        _refuse(
            tokens[row, : lengths[row]],
            frames[row],
            num_labels,
            blank=blank,
            name=f"targets[{row}]",
            verb="needs",
            length=f"input_lengths[{row}] is",
        )
    if num_threads is None:
        num_threads = os.cpu_count() or 1
    elif num_threads < 1:
        raise InputError(f"num_threads must be at least 1; got {num_threads}")
    return _align(
        emissions,
        tokens,
        frames,
        lengths,
        blank=blank,
        floor=np.full(tokens.shape[1] + 1, _LOG_ZERO),
        num_threads=num_threads,
    )


def warm_up(on_compile: Callable[[], object] | None = None) -> None:
    """Load the compiled aligner, compiling it if necessary: see `asr.ctc.beam.warm_up`.

    Args:
        on_compile: called before a compilation, to explain the delay.
    """
    _kernels.load(on_compile=on_compile)


def _align(
    emissions: Any,
    tokens: np.ndarray,
    input_lengths: np.ndarray,
    target_lengths: np.ndarray,
    *,
    blank: int,
    floor: np.ndarray,
    num_threads: int,
) -> list[Alignment]:
    """Alignments of a checked batch, on the processor or by CUDA.

    `floor` (U + 1,) is the least log-probability of Φ in every gap; -inf has no effect.
    """
    shapes = list(zip(input_lengths.tolist(), target_lengths.tolist(), strict=True))
    names = [f"log_probs[{row}]" if len(shapes) > 1 else "log_probs" for row in range(len(shapes))]
    paths = np.empty((len(shapes), emissions.shape[1]), dtype=np.int64)
    spans = np.empty((*tokens.shape, 2), dtype=np.int64)
    token_scores, scores = np.empty(tokens.shape), np.empty(len(shapes))
    results = paths, spans, token_scores, scores
    if isinstance(emissions, np.ndarray):
        if emissions.size and not emissions.max() <= _HIGHEST:  # true for NaN, too; but it may be in the padding
            for row, (num_frames, _) in enumerate(shapes):
                if not (emissions[row, :num_frames] <= _HIGHEST).all():
                    _refuse_emission(emissions[row, :num_frames], name=names[row])
        _align_on_processor(emissions, tokens, shapes, results, blank=blank, floor=floor, num_threads=num_threads)
    else:
        wrong = ~(emissions <= _HIGHEST).all(dim=2).cpu().numpy()
        for row, (num_frames, _) in enumerate(shapes):
            if wrong[row, :num_frames].any():
                _refuse_emission(emissions[row, :num_frames].cpu().numpy(), name=names[row])
        _align_on_device(emissions, tokens, shapes, results, blank=blank, floor=floor)
    alignments = []
    for row, ((num_frames, num_tokens), score) in enumerate(zip(shapes, scores.tolist(), strict=True)):
        if score == _LOG_ZERO:
            raise InputError(
                f"{names[row]} must allow a path through the labels; every path has a log-probability of -inf"
            )
        alignments.append(
            Alignment(
                path=paths[row, :num_frames],
                spans=spans[row, :num_tokens],
                token_scores=token_scores[row, :num_tokens],
                score=score,
            )
        )
    return alignments


def _align_on_processor(
    emissions: np.ndarray,
    tokens: np.ndarray,
    shapes: Sequence[tuple[int, int]],
    results: _Results,
    *,
    blank: int,
    floor: np.ndarray,
    num_threads: int,
) -> None:
    """Write the results for utterances of these numbers of frames and tokens."""
    _, most_frames, num_labels = emissions.shape
    steps = [_block_length(num_frames, num_tokens) for num_frames, num_tokens in shapes]
    blocks = np.array([(*shape, step) for shape, step in zip(shapes, steps, strict=True)], dtype=np.int64)
    kernel, results_at = _kernels["align"], [array.ctypes.data for array in results]

    def work(rows: Sequence[int]) -> None:
        indices = np.array(rows, dtype=np.int64)
        space = np.empty(max((_work_size(*shapes[row], steps[row]) for row in rows), default=0))
        kernel(
            indices.ctypes.data, len(indices), blocks.ctypes.data, emissions.ctypes.data, emissions.itemsize == 8,
            most_frames, num_labels, tokens.ctypes.data, tokens.shape[1], blank, floor.ctypes.data, space.ctypes.data,
            *results_at,
        )  # fmt: skip

    sizes = [num_frames * num_tokens for num_frames, num_tokens in shapes]
    num_threads = min(num_threads, len(shapes), 1 + sum(sizes) // _WORTH_A_THREAD)
    if num_threads <= 1:
        work(range(len(shapes)))
    else:  # each thread takes every n-th utterance, longest first
        order = sorted(range(len(shapes)), key=lambda row: -sizes[row])
        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(work, (order[first::num_threads] for first in range(num_threads))))


def _block_length(num_frames: int, num_tokens: int) -> int:
    """Frames of a block: an even number of about √T, or all if there are few scores."""
    if num_frames * (num_tokens + 1) <= _FEW:
        return max(num_frames, 1)
    half = math.isqrt(num_frames) // 2 + 1
    return 2 * half  # two rows take turns, and each block starts in the same one


def _work_size(num_frames: int, num_tokens: int, step: int) -> int:
    """The numbers for which `alignment_kernel._align_one` needs memory."""
    num_blocks = max(-(-num_frames // step), 1)
    return (6 + 2 * num_blocks) * (num_tokens + 1) + (step + 1) * 2 * (min(step, num_tokens) + 1) + num_frames


def _align_on_device(
    log_probs: torch.Tensor,
    tokens: np.ndarray,
    shapes: Sequence[tuple[int, int]],
    results: _Results,
    *,
    blank: int,
    floor: np.ndarray,
) -> None:
    """`_align_on_processor` in torch: all utterances and all 2U + 1 states at once, frame by frame.

    After its last frame an utterance keeps its state and score. A block is computed again only for the states that can
    lead to the state at its end.
    """
    import torch

    batch_size, most_frames, _ = log_probs.shape
    device = log_probs.device
    num_states = 2 * tokens.shape[1] + 1
    input_lengths, target_lengths = np.array(shapes, dtype=np.int64).reshape(batch_size, 2).T
    frames = torch.from_numpy(input_lengths.copy()).to(device)[:, None]
    host_labels = np.full((batch_size, num_states), blank)
    host_labels[:, 1::2] = np.where(np.arange(tokens.shape[1]) < target_lengths[:, None], tokens, blank)
    host_skip = np.full((batch_size, num_states), _LOG_ZERO)
    host_skip[:, 3::2][host_labels[:, 3::2] != host_labels[:, 1:-2:2]] = 0.0
    host_least = np.full((batch_size, num_states), _LOG_ZERO)
    host_least[:, ::2] = floor
    labels, skip, least = (torch.from_numpy(array).to(device) for array in (host_labels, host_skip, host_least))

    def advance(row: torch.Tensor, t: int, columns: torch.Tensor | None) -> torch.Tensor:
        """The scores after frame t of the states `columns` (B, W), or of all."""
        own, allowed, floors = (
            array if columns is None else array.gather(1, columns) for array in (labels, skip, least)
        )
        scores_now = torch.maximum(log_probs[:, t].gather(1, own).double(), floors)
        padded = torch.nn.functional.pad(row, (2, 0), value=_LOG_ZERO)
        best = torch.maximum(torch.maximum(row, padded[:, 1:-1]), padded[:, :-2] + allowed)
        return torch.where(t < frames, best + scores_now, row)

    step = math.isqrt(max(most_frames - 1, 0)) + 1
    row = torch.full((batch_size, num_states), _LOG_ZERO, dtype=torch.float64, device=device)
    row[:, 0] = 0.0
    checkpoints = []
    for t in range(most_frames):
        if t % step == 0:
            checkpoints.append(row)
        row = advance(row, t, None)
    batch, end = np.arange(batch_size), row.cpu().numpy()
    in_gap, in_label = 2 * target_lengths, np.maximum(2 * target_lengths - 1, 0)
    state = np.where(end[batch, in_gap] > end[batch, in_label], in_gap, in_label)
    states, spans, token_scores, scores = results
    scores[:] = end[batch, state]
    width = min(2 * step + 1, num_states)
    for block in reversed(range(len(checkpoints))):
        begin = block * step
        first = np.clip(state - 2 * step, 0, num_states - width)
        columns = torch.from_numpy(first[:, None] + np.arange(width)).to(device)
        rows = [checkpoints[block].gather(1, columns)]
        for t in range(begin, min(begin + step, most_frames) - 1):
            rows.append(advance(rows[-1], t, columns))
        wedge = np.pad(torch.stack(rows).cpu().numpy(), ((0, 0), (0, 0), (2, 0)), constant_values=_LOG_ZERO)
        for row_before, t in reversed(list(zip(wedge, range(begin, most_frames), strict=False))):
            states[:, t] = state
            column = state - first + 2
            stay, before = row_before[batch, column], row_before[batch, column - 1]
            change = row_before[batch, column - 2] + host_skip[batch, state]
            back = np.where((change > before) & (change > stay), 2, before > stay)
            state = np.where(t < input_lengths, state - back, state)
    path = torch.from_numpy(np.take_along_axis(host_labels, states, axis=1)).to(device)
    path_scores = log_probs.gather(2, path[:, :, None])[:, :, 0].double().cpu().numpy()
    for index in np.flatnonzero(scores > _LOG_ZERO).tolist():
        num_frames, num_tokens = shapes[index]
        _kernels["describe"](
            states[index].ctypes.data, path_scores[index].ctypes.data, num_frames, tokens[index].ctypes.data,
            num_tokens, blank, spans[index].ctypes.data, token_scores[index].ctypes.data,
        )  # fmt: skip


def checked_log_probs(log_probs: Any) -> np.ndarray:
    """(T, V) contiguous float64 natural log-probabilities, from an array or tensor as for `align`.

    Raises:
        InputError: another shape or dtype, NaN, or a positive number.
    """
    if hasattr(log_probs, "detach"):
        log_probs = log_probs.detach().cpu()
    emission = _checked_emission(log_probs, shape="(T, V)", num_axes=2)
    if emission.size and not emission.max() <= _HIGHEST:
        _refuse_emission(emission, name="log_probs")
    return emission.astype(np.float64, copy=False)


def _checked_emission(log_probs: Any, *, shape: str, num_axes: int) -> Any:
    """A contiguous NumPy array of float32 or float64, or a torch tensor on CUDA."""
    if hasattr(log_probs, "detach"):  # a torch tensor, recognised without importing torch
        emission = log_probs.detach()
        is_floating = emission.is_floating_point()
        if not emission.is_cuda:
            emission = emission.cpu()
            emission = (emission.float() if emission.dtype.itemsize < 4 else emission).numpy()
    else:
        emission = np.asarray(log_probs)
        is_floating = emission.dtype.kind == "f"
    if emission.ndim != num_axes:
        raise InputError(f"log_probs must be {shape}; got shape {tuple(emission.shape)}")
    if not is_floating:
        raise InputError(f"log_probs must hold floating-point numbers; got {emission.dtype}")
    if isinstance(emission, np.ndarray):
        kind = np.float64 if emission.dtype.itemsize > 4 else np.float32
        emission = np.ascontiguousarray(emission, dtype=kind)
    return emission


def _checked_labels(labels: Any, num_frames: int, num_labels: int, *, blank: int) -> np.ndarray:
    """(U,) int64 labels that fit into the frames."""
    tokens = _integers(labels, name="labels")
    if tokens.ndim != 1:
        raise InputError(f"labels must be (U,); got shape {tokens.shape}")
    _check_blank(blank, num_labels)
    needed = len(tokens) + np.count_nonzero(tokens[1:] == tokens[:-1])
    wrong = (tokens < 0) | (tokens >= num_labels) | (tokens == blank)
    if needed > num_frames or np.count_nonzero(wrong):
        _refuse(tokens, num_frames, num_labels, blank=blank, name="labels", verb="need", length="log_probs has")
    return tokens


def _refuse_emission(emission: np.ndarray, *, name: str) -> NoReturn:
    """Raise an InputError about the first frame that holds no log-probabilities."""
    frame = np.flatnonzero(~(emission <= _HIGHEST).all(axis=1))[0]
    raise InputError(
        f"{name} must hold natural log-probabilities, none of them NaN or above 0; frame {frame} does not; "
        "apply log_softmax to logits, the logarithm to probabilities"
    )


def _refuse(
    tokens: np.ndarray, num_frames: int, num_labels: int, *, blank: int, name: str, verb: str, length: str
) -> NoReturn:
    """Raise an InputError about the fault of the tokens."""
    wrong = np.flatnonzero((tokens < 0) | (tokens >= num_labels) | (tokens == blank))
    if wrong.size:
        label = int(tokens[wrong[0]])
        raise InputError(
            f"{name} must lie in 0 .. {num_labels - 1} and not hold the blank, {blank}; "
            f"{name}[{wrong[0]}] is {label}" + (": collapse the path first" if label == blank else "")
        )
    needed = minimum_frames(tokens)
    raise InputError(
        f"{name} {verb} {needed} frames ({len(tokens)} labels, {needed - len(tokens)} repeats) "
        f"but {length} {num_frames}"
    )


def _checked_lengths(lengths: Any, batch_size: int, most: int, *, name: str) -> np.ndarray:
    """(B,) int64 in 0 .. most."""
    array = _integers(lengths, name=name)
    if array.shape != (batch_size,):
        raise InputError(f"{name} must be (B,) with the B of log_probs, {batch_size}; got shape {array.shape}")
    if (wrong := np.flatnonzero((array < 0) | (array > most))).size:
        raise InputError(f"{name} must lie in 0 .. {most}; {name}[{wrong[0]}] is {array[wrong[0]]}")
    return array


def checked_gaps(gaps: Any, gap_score: float, num_tokens: int) -> np.ndarray:
    """The gaps."""
    array = _integers(gaps, name="gaps")
    if ((array < 0) | (array > num_tokens)).any():
        raise InputError(f"gaps must lie in 0 .. {num_tokens}, the number of labels; got {array.tolist()}")
    if not gap_score <= 0:
        raise InputError(f"gap_score must be a log-probability, at most 0; got {gap_score}")
    return array


def _check_blank(blank: int, num_labels: int) -> None:
    if not 0 <= blank < num_labels:
        raise InputError(f"blank must be one of the {num_labels} labels, 0 .. {num_labels - 1}; got {blank}")


def _integers(values: Any, *, name: str) -> np.ndarray:
    """Contiguous int64 on the processor."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        array = np.asarray(values)
    except ValueError:  # a ragged nest of lists
        raise InputError(f"{name} must be an array of integers; got lists of different lengths") from None
    if array.size and array.dtype.kind not in "iu":
        raise InputError(f"{name} must hold integers; got {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.int64)

"""Training on shards is training on the manifest that they were made of, window by window, and it resumes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from threading import Event

import fsspec
import numpy as np
import pytest
import torch

from asr.data.shards import write_shards
from asr.errors import ConfigError, DataError
from asr.training import acoustic_task, plan
from asr.training.acoustic import train_acoustic_model
from asr.training.acoustic_task import AcousticTask, prepare_acoustic_task
from asr.training.batches import Batch, with_sounds
from asr.training.config import DataOptions, TrainingConfig
from asr.training.log import read_log
from asr.training.plan import plan_windows, shared_out

Configure = Callable[..., TrainingConfig]


@pytest.fixture(scope="module")
def shards(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train in eleven shards of four utterances, dev in two."""
    folder = tmp_path_factory.mktemp("shards")
    for split in ("train", "dev"):
        write_shards(tone_corpus / f"{split}.jsonl.gz", folder / split, shard_size=4)
    return folder


@pytest.fixture
def on_shards(shards: Path, tone_config: Configure) -> Callable[..., TrainingConfig]:
    """The configuration of a training on them."""

    def configure(*, together: int, folder: str | Path = shards, **changes: object) -> TrainingConfig:
        config = tone_config(**changes)
        sources = {split: (f"{folder}/{split}",) for split in ("train", "dev")}
        return replace(config, data=replace(config.data, **sources, shards_together=together))

    return configure


def make_task(config: TrainingConfig, **options: object) -> AcousticTask:
    torch.manual_seed(0)
    return prepare_acoustic_task(config, device=torch.device("cpu"), note=lambda _: None, **options)


def same(one: Batch, other: Batch) -> bool:
    return [each.id for each in one.examples] == [each.id for each in other.examples] and torch.equal(
        one.inputs, other.inputs
    )


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_log(folder) if record["kind"] == "step"]


# windows


@pytest.mark.parametrize("together", [1, 2, 5])
@pytest.mark.parametrize("num_loose", [0, 1, 30])
def test_each_utterance_is_in_one_window_with_its_archive(
    together: int, num_loose: int, rng: np.random.Generator
) -> None:
    archives = [f"shard {number}" for number in range(7) for _ in range(10)] + [""] * num_loose
    windows = plan_windows(archives, together=together, rng=rng)
    assert sorted(np.concatenate(windows)) == list(range(len(archives)))
    assert len(windows) == -(-7 // together)
    held = [{archives[index] for index in window} - {""} for window in windows]
    assert all(len(names) <= together for names in held) and sum(map(len, held)) == 7
    loose = [sum(index >= 70 for index in window) for window in windows]
    assert max(loose) - min(loose) <= 1


def test_windows_are_shuffled_unless_there_is_one() -> None:
    archives = [str(number) for number in range(20)]
    first = [plan_windows(archives, together=3, rng=np.random.default_rng(seed))[0].tolist() for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]
    assert plan_windows(archives, together=3, rng=None)[0].tolist() == [0, 1, 2]
    for together, names in ((20, archives), (1, [""] * 20)):
        (window,) = plan_windows(names, together=together, rng=np.random.default_rng(0))
        assert window.tolist() == list(range(20))


def test_archives_are_read_a_window_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = [Event() for _ in range(4)], [Event() for _ in range(4)]
    order = count()

    def read(utterances: object, stopped: object) -> dict[tuple[str, str], bytes]:
        number = next(order)
        begun[number].set()
        assert may_end[number].wait(10)
        return {}

    monkeypatch.setattr("asr.training.batches.read_sounds", read)
    may_end[0].set()
    batches = with_sounds([[1, 2], [3], [4], [5]], lambda _: ())
    assert next(batches)[0] == 1
    assert begun[1].wait(10)  # while the first is used
    may_end[1].set()
    assert next(batches)[0] == 2 and not begun[2].wait(0.2)  # memory holds two
    assert next(batches)[0] == 3 and begun[2].wait(10)
    may_end[2].set(), may_end[3].set()
    assert [batch for batch, _ in batches] == [4, 5]


def test_who_stops_early_does_not_wait_for_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(utterances: object, stopped: Callable[[], bool]) -> dict[tuple[str, str], bytes]:
        deadline = time.monotonic() + (0.0 if not done else 20.0)
        done.append(True)
        while time.monotonic() < deadline and not stopped():
            time.sleep(0.01)
        return {}

    done: list[bool] = []
    monkeypatch.setattr("asr.training.batches.read_sounds", read)
    batches = with_sounds([[1], [2], [3]], lambda _: ())
    next(batches)
    begin = time.monotonic()
    batches.close()
    assert time.monotonic() - begin < 10


# training


def test_shards_in_one_window_train_as_their_manifest_does(
    on_shards: Configure, tone_config: Configure, tmp_path: Path
) -> None:
    train_acoustic_model(tone_config(epochs=2), tmp_path / "manifest", device="cpu")
    train_acoustic_model(on_shards(together=11, epochs=2), tmp_path / "shards", device="cpu")
    assert losses(tmp_path / "shards") == losses(tmp_path / "manifest")
    epochs = [[r["wer"] for r in read_log(tmp_path / name) if r["kind"] == "epoch"] for name in ("shards", "manifest")]
    assert epochs[0] == epochs[1]


def test_a_batch_is_of_one_window(on_shards: Configure) -> None:
    task = make_task(on_shards(together=2))
    archives = [
        {each.archive for example in batch.examples for each in example.utterances}
        for batch in task.batches(1, start=0)
    ]
    assert all(len(names) <= 2 for names in archives) and len(set.union(*archives)) == 11
    ids = sorted(example.id for batch in task.batches(1, start=0) for example in batch.examples)
    assert ids == sorted(example.id for example in task.train_examples)


def test_the_longest_recording_comes_first(on_shards: Configure) -> None:
    task = make_task(on_shards(together=2))
    first = next(task.batches(0, start=0))
    longest = max(example.seconds for example in task.train_examples)
    assert max(example.seconds for example in first.examples) == longest
    task.rehearse()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_where_it_stopped(on_shards: Configure, workers: int) -> None:
    whole = list(make_task(on_shards(together=2)).batches(1, start=0))
    task = make_task(on_shards(together=2), workers=workers)
    for start in (0, 1, 5, len(whole) - 1, len(whole)):
        rest = list(task.batches(1, start=start))
        assert len(rest) == len(whole) - start and all(map(same, rest, whole[start:]))
    assert task.num_batches(1) == len(whole)


def test_what_is_behind_is_not_read_again(on_shards: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(on_shards(together=2))
    windows = task.plan(1)
    read: list[str] = []
    from asr.data import shards as room

    members = room._members
    monkeypatch.setattr(room, "_members", lambda archive, *rest: read.append(archive) or members(archive, *rest))
    list(task.batches(1, start=sum(map(len, windows[:-1]))))
    held = {task.train_examples[index].utterances[0].archive for batch in windows[-1] for index in chain(*batch)}
    assert sorted(read) == sorted(held)


def test_the_rehearsal_has_the_longest_of_all_windows_and_reads_no_more(
    on_shards: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(on_shards(together=1))
    longest = max(task.dev_examples, key=lambda example: example.seconds)
    heard: list[list[str]] = []
    plain = acoustic_task.plain_batches

    def spied(*windows):
        for batch in plain(*windows):
            heard.append([example.id for example in batch.examples])
            yield batch

    monkeypatch.setattr(acoustic_task, "plain_batches", spied)
    task.rehearse()
    assert len(heard) == 1 and longest.id in heard[0]


def test_batches_of_windows_are_shared_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = [[f"{window}.{batch}" for batch in range(6)] for window in range(25)]
    monkeypatch.setattr(plan, "num_processes", lambda: 4)
    shares = []
    for number in range(4):
        monkeypatch.setattr(plan, "rank", lambda number=number: number)
        shares.append([list(chain(*shared_out(windows)))][0])
    assert sorted(chain(*shares)) == sorted(chain(*windows))
    assert {len(share) for share in shares} == {37, 38}


def test_a_manifest_behind_a_url_is_refused(tone_config: Configure) -> None:
    config = tone_config()
    with pytest.raises(DataError, match=r"s3://b/train.jsonl.gz: a manifest must be a file on a disk; only folders of"):
        make_task(replace(config, data=replace(config.data, train=("s3://b/train.jsonl.gz",))))


def test_a_bucket_and_files_train_together(
    shards: Path, on_shards: Configure, tone_corpus: Path, tmp_path: Path
) -> None:
    fsspec.filesystem("memory").put(str(shards), "/trained-on", recursive=True)
    config = on_shards(together=3, folder="memory://trained-on", epochs=1)
    both = replace(config.data, train=(*config.data.train, str(tone_corpus / "dev.jsonl.gz")))
    train_acoustic_model(replace(config, data=both), tmp_path / "run", device="cpu")
    model = (tmp_path / "run" / "model" / "config.json").read_text()
    assert losses(tmp_path / "run") and "memory:" not in model


def test_a_shard_that_is_gone_is_named(on_shards: Configure, tmp_path: Path, shards: Path) -> None:
    from shutil import copytree

    copytree(shards, tmp_path / "copy")
    task = make_task(on_shards(together=2, folder=tmp_path / "copy"))
    (tmp_path / "copy" / "train" / "recording.000003.tar").unlink()
    with pytest.raises(DataError, match=r"recording.000003.tar: cannot be read: .*No such file"):
        list(task.batches(0, start=0))


def test_a_window_holds_a_shard() -> None:
    with pytest.raises(ConfigError, match="shards_together must be at least 1, not 0"):
        DataOptions(train=("a",), dev=("b",), shards_together=0)

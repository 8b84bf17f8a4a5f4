"""Which epochs' weights stay on the disk."""

from __future__ import annotations

from pathlib import Path

from asr.training.best_weights import drop_others


def test_only_the_weights_of_the_best_epochs_stay(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for epoch in (1, 2, 3, 4):
        (tmp_path / "checkpoints" / f"epoch-000{epoch}.safetensors").touch()
    (tmp_path / "checkpoints" / "step-00000001.pt").touch()
    drop_others([(0.5, 1.0, 2), (0.6, 1.0, 4)], tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "epoch-0002.safetensors",
        "epoch-0004.safetensors",
        "step-00000001.pt",
    ]

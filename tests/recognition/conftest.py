"""The model of tones and the recordings of `tests.cli`."""

from tests.cli.conftest import model, sounds, texts  # noqa: F401

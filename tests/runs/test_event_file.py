"""TensorBoard's file: what TensorBoard reads is what was written, and a row is there as a whole or not at
all."""

import os

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastrl.errors import RunFolderError
from fastrl.runs.event_file import EventFile


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_scalars_and_histograms_are_read_by_tensorboard(tmp_path):
    file = EventFile(tmp_path)
    file.add_scalars({"loss": 0.5, "eval/return": -2.0}, 10)
    file.add_histograms({"actions": torch.tensor([[-1.0, 0.0], [1e-3, 250.0]])}, 10)
    events = read(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 0.5)]
    [histogram] = events.Histograms("actions")
    found = histogram.histogram_value
    assert (found.min, found.max, found.num, found.sum) == (-1.0, 250.0, 4.0, pytest.approx(249.001)) and sum(
        found.bucket
    ) == 4
    assert np.all(np.diff(found.bucket_limit) > 0)


def test_a_later_session_hides_what_it_does_again(tmp_path):
    for purge_step, value in ((None, 1.0), (20, 2.0)):
        file = EventFile(tmp_path, purge_step=purge_step)
        for step in (10, 20, 30) if purge_step is None else (20,):
            file.add_scalars({"loss": value}, step)
    assert [(event.step, event.value) for event in read(tmp_path).Scalars("loss")] == [(10, 1.0), (20, 2.0)]


def test_a_file_that_is_removed_begins_anew(tmp_path):
    file = EventFile(tmp_path)
    file.add_scalars({"loss": 1.0}, 10)
    file.path.unlink()
    file.add_scalars({"loss": 2.0}, 20)
    assert [event.step for event in read(tmp_path).Scalars("loss")] == [20]


def test_half_a_row_is_never_left(tmp_path, monkeypatch):
    file = EventFile(tmp_path)
    file.add_scalars({"loss": 1.0}, 10)
    before, write = file.path.read_bytes(), os.write

    def full(descriptor, data):
        if len(data) > 5:
            return write(descriptor, data[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(RunFolderError, match="No space left on device"):
            file.add_scalars({"loss": 2.0}, 20)
    assert file.path.read_bytes() == before

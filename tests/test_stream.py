"""Tomograms that come and go while a training goes on."""

import functools
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from test_volumes import write_run

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training import stream as streaming
from kaggle_cryoet.training.crops import CropDataset, CropSettings
from kaggle_cryoet.training.stream import FIRST_SEED, Stream, StreamedCrops, StreamSettings

SETTINGS = StreamSettings(shape_zyx=(40, 48, 56), volumes=3, fresh=2)
SMALL = CropSettings(shape_zyx=(8, 8, 8))


class Here:
    """A process in the background that is this one."""

    def __init__(self, *_: object, **__: object) -> None:
        self.asked: list[tuple] = []

    def submit(self, function, folder: Path, seed: int, settings: StreamSettings):
        from concurrent.futures import Future

        self.asked.append((folder.name, seed))
        if not folder.exists():
            write_run(folder, f"SIM_{seed}")
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def shutdown(self, **_: object) -> None:
        pass


@pytest.fixture
def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ProcessPoolExecutor", Here)


def names(stream: Stream, epoch: int) -> list[int]:
    return [int(volume.name.removeprefix("SIM_")) - FIRST_SEED for volume in stream.volumes(epoch)]


@pytest.mark.usefixtures("without_processes")
def test_with_each_epoch_some_tomograms_come_and_the_oldest_go(tmp_path: Path) -> None:
    stream = Stream(SETTINGS, tmp_path / "stream", seed=0)
    assert names(stream, 0) == [0, 1, 2]
    assert sorted(path.name for path in (tmp_path / "stream").iterdir()) == ["0", "1", "2", "3", "4"]
    assert names(stream, 1) == [2, 3, 4]
    assert sorted(path.name for path in (tmp_path / "stream").iterdir()) == ["2", "3", "4", "5", "6"]
    assert [number for number, _ in stream._pool.asked] == ["0", "1", "2", "3", "4", "5", "6"]
    resumed = Stream(SETTINGS, tmp_path / "stream", seed=0)
    assert names(resumed, 1) == [2, 3, 4]
    assert names(Stream(SETTINGS, tmp_path / "other", seed=2), 0)[0] == 2_000_000


@pytest.mark.usefixtures("without_processes")
def test_crops_of_a_stream_depend_on_their_number_alone(tmp_path: Path) -> None:
    def crops(folder: str) -> StreamedCrops:
        crops_of = functools.partial(CropDataset, stride=2, seed=0, settings=SMALL)
        return StreamedCrops([], Stream(SETTINGS, tmp_path / folder, seed=0), crops_of, 4)

    unbroken, resumed = crops("a"), crops("b")
    expected = [unbroken[number] for number in range(12)]
    for number in (9, 10, 11):
        for one, other in zip(resumed[number], expected[number], strict=True):
            assert torch.equal(one, other)
    assert len(unbroken) == 4
    assert pickle.loads(pickle.dumps(unbroken.stream))._pool is None


@pytest.mark.slow
def test_a_process_in_the_background_simulates_what_simulate_does(tmp_path: Path) -> None:
    from kaggle_cryoet.runs import find_runs
    from kaggle_cryoet.simulation.dataset import simulate
    from kaggle_cryoet.training.volumes import load_labelled_volume

    stream = Stream(StreamSettings(shape_zyx=(40, 48, 56), volumes=1, fresh=0), tmp_path / "stream", seed=0)
    (volume,) = stream.volumes(0)
    stream.close()
    simulate(tmp_path / "expected", shape_zyx=(40, 48, 56), seed=FIRST_SEED)
    expected = load_labelled_volume(find_runs(tmp_path / "expected")[0])
    np.testing.assert_array_equal(volume.volume, expected.volume)
    assert isinstance(volume.picks, Picks)
    np.testing.assert_array_equal(volume.picks.label, expected.picks.label)


def test_an_impossible_stream_is_an_input_error() -> None:
    for numbers in ({"volumes": 0, "fresh": 0}, {"volumes": 2, "fresh": 3}, {"fresh": -1}):
        with pytest.raises(InputError, match="no more fresh ones"):
            StreamSettings(shape_zyx=(40, 48, 56), **numbers)

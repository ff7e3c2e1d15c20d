"""Tomograms that come and go while a training goes on."""

import functools
import pickle
import shutil
import threading
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_crops import labelled_volume
from torch.utils.data import DataLoader

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.spectrum import SHELLS
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.simulation.run_folder import write_run
from kaggle_cryoet.training import stream as streaming
from kaggle_cryoet.training.crops import CropDataset, CropSettings, EpochSampler
from kaggle_cryoet.training.stream import FIRST_SEED, LeadStream, Stream, StreamedCrops, StreamSettings
from kaggle_cryoet.training.volumes import load_labelled_volume

SHAPE = (32, 40, 36)
SETTINGS = StreamSettings(shape_zyx=SHAPE, volumes=3, fresh=2)
SMALL = CropSettings(shape_zyx=(8, 8, 8))


class Here:
    """Does at once, and in this process, what would be done in another."""

    def __init__(self, *_: object, **__: object) -> None:
        self.asked: list[int] = []

    def submit(self, function, stream: Stream, number: int) -> Future[None]:
        self.asked.append(number)
        done: Future[None] = Future()
        try:
            done.set_result(function(stream, number))
        except OSError as error:
            done.set_exception(error)
        return done

    def shutdown(self, **_: object) -> None:
        pass


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ProcessPoolExecutor", Here)


def numbers(stream: Stream, epoch: int) -> list[int]:
    stream.begin(epoch)
    return [int(volume.name.rpartition("_")[2]) for volume in stream.volumes(epoch)]


@pytest.mark.usefixtures("in_this_process")
def test_with_each_epoch_some_tomograms_come_and_the_oldest_go(tmp_path: Path) -> None:
    stream = Stream(SETTINGS, tmp_path / "stream", seed=0)
    assert numbers(stream, 0) == [0, 1, 2]
    assert sorted(path.name for path in (tmp_path / "stream").iterdir()) == ["0", "1", "2", "3", "4"]
    assert numbers(stream, 1) == [2, 3, 4]
    assert sorted(path.name for path in (tmp_path / "stream").iterdir()) == ["2", "3", "4", "5", "6"]
    assert stream._pool.asked == [0, 1, 2, 3, 4, 5, 6]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "stream").iterdir()}
    resumed = Stream(SETTINGS, tmp_path / "stream", seed=0)
    assert numbers(resumed, 1) == [2, 3, 4]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "stream").iterdir()} == before


@pytest.mark.usefixtures("in_this_process")
def test_a_stream_depends_on_its_seed_and_its_difficulty(tmp_path: Path) -> None:
    def first(name: str, seed: int, **changes: object):
        settings = StreamSettings(shape_zyx=SHAPE, volumes=2, fresh=0, **changes)
        stream = Stream(settings, tmp_path / name, seed=seed)
        stream.begin(0)
        return [volume.volume for volume in stream.volumes(0)]

    one, again, other, harder = first("a", 0), first("b", 0), first("c", 1), first("d", 0, difficulty=1.0)
    for volume, same, different in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(volume, same)
        assert (volume != different).mean() > 0.9
    np.testing.assert_array_equal(one[0], harder[0])  # the first has none of it, the second 0.62
    assert (one[1] != harder[1]).mean() > 0.9
    assert [Stream(StreamSettings(shape_zyx=SHAPE, difficulty=0.5), tmp_path, 0).difficulty(n) for n in (0, 1, 2)] == (
        pytest.approx([0, 0.309, 0.118], abs=1e-3)
    )


@pytest.mark.usefixtures("in_this_process")
def test_crops_of_a_stream_depend_on_their_number_alone(tmp_path: Path) -> None:
    def crops(folder: str, epoch: int) -> StreamedCrops:
        crops_of = functools.partial(CropDataset, stride=2, seed=0, settings=SMALL)
        stream = Stream(SETTINGS, tmp_path / folder, seed=0)
        stream.begin(epoch)
        return StreamedCrops([labelled_volume()], stream, crops_of, 4)

    unbroken, resumed = crops("a", 0), crops("b", 1)
    expected = [unbroken[number] for number in range(8)]
    for number in (5, 6, 7):
        for one, other in zip(resumed[number], expected[number], strict=True):
            assert torch.equal(one, other)
    assert len(unbroken) == 4
    assert pickle.loads(pickle.dumps(unbroken.stream))._pool is None


@pytest.mark.slow
def test_processes_in_the_background_simulate_what_simulate_does_and_those_of_the_loader_draw_from_it(
    tmp_path: Path,
) -> None:
    spectrum = tuple(np.linspace(5, 1, SHELLS))
    settings = StreamSettings(shape_zyx=SHAPE, volumes=2, fresh=1, processes=2, setting="wide")
    stream = Stream(settings, tmp_path / "stream", 7, spectrum, tomogram_types=("denoised", "wbp@0.25"))
    lead = LeadStream(stream, first_epoch=1)
    lead.on_fit_start(SimpleNamespace(is_global_zero=False, max_epochs=2), None)
    lead.on_fit_start(SimpleNamespace(is_global_zero=True, max_epochs=1), None)  # which is over already
    assert stream._pool is None
    lead.on_fit_start(SimpleNamespace(is_global_zero=True, max_epochs=2), None)
    crops_of = functools.partial(CropDataset, stride=2, seed=0, settings=SMALL)
    dataset = StreamedCrops([labelled_volume()], stream, crops_of, 4)
    sampler = EpochSampler(4, first_epoch=1)
    batches = list(DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=2))
    found = stream.volumes(1)
    lead.teardown(None, None, "fit")
    assert sorted(path.name for path in stream.folder.iterdir()) == ["1", "2"]  # none for an epoch after the last
    assert [(volume.name, volume.weight) for volume in found] == [
        ("SIM_1000000007_1", 1.0),
        ("SIM_1000000007_1", 0.25),
        ("SIM_1000000007_2", 1.0),
        ("SIM_1000000007_2", 0.25),
    ]
    for number in (0, 3):
        assert torch.equal(batches[number // 2][0][number % 2], dataset[4 + number][0])

    from kaggle_cryoet.simulation.dataset import simulate_tomograms
    from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES

    tomograms, picks, _ = simulate_tomograms(
        "run",
        seed=(FIRST_SEED + 7, 2),
        shape_zyx=SHAPE,
        nuisances=NUISANCE_RANGES["wide"].draw_of_set(FIRST_SEED + 7, 2),
        tomogram_types=("denoised", "wbp"),
    )
    write_run(tmp_path / "expected", "run", tomograms, picks, {})
    for volume, tomogram_type in zip(found[2:], ("denoised", "wbp"), strict=True):
        (run,) = find_runs(tmp_path / "expected", tomogram_type=tomogram_type)
        expected = load_labelled_volume(run, spectrum=spectrum)
        np.testing.assert_array_equal(volume.volume, expected.volume)
        np.testing.assert_array_equal(volume.picks.label, expected.picks.label)
        np.testing.assert_allclose(volume.picks.position_zyx_angstrom, expected.picks.position_zyx_angstrom)
        assert volume.voxel_angstrom == expected.voxel_angstrom


@pytest.mark.usefixtures("in_this_process")
def test_those_who_wait_for_a_tomogram_that_cannot_be_made_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    stream = Stream(SETTINGS, tmp_path / "stream", seed=0)
    waiting: list[InputError] = []

    def wait() -> None:
        with pytest.raises(InputError) as caught:
            stream.volumes(0)
        waiting.append(caught.value)

    thread = threading.Thread(target=wait)
    thread.start()
    with monkeypatch.context() as patch:
        patch.setattr(streaming, "simulate_specimen", full)
        stream.begin(0)
    thread.join(10)
    assert "0: could not be simulated (No space left on device)" in str(waiting[0])
    assert numbers(Stream(SETTINGS, tmp_path / "stream", seed=0), 0) == [0, 1, 2]


def test_a_process_that_is_killed_while_it_simulates_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def submit(self, *_: object) -> None:
            raise BrokenProcessPool("A process in the process pool was terminated abruptly")

    stream = Stream(SETTINGS, tmp_path / "stream", seed=0)
    monkeypatch.setattr(stream, "_pool", Broken())
    with pytest.raises(InputError, match="ended from outside; was memory short"):
        stream.begin(0)


def test_an_impossible_stream_is_an_input_error() -> None:
    for wrong in ({"volumes": 0, "fresh": 0}, {"volumes": 2, "fresh": 3}, {"fresh": -1}):
        with pytest.raises(InputError, match="no more fresh ones"):
            StreamSettings(shape_zyx=SHAPE, **wrong)
    with pytest.raises(InputError, match="one process or more"):
        StreamSettings(shape_zyx=SHAPE, processes=0)
    with pytest.raises(InputError, match="unknown setting 'real'; expected one of training, wide, shifted"):
        StreamSettings(shape_zyx=SHAPE, setting="real")
    with pytest.raises(InputError, match="difficulty from -1 to 1, got 2"):
        StreamSettings(shape_zyx=SHAPE, difficulty=2.0)


def test_specimens_of_the_same_stream_stay_and_those_of_another_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stream"
    there = folder / "0"
    for change, stays in (
        (lambda: Stream(replace(SETTINGS, processes=3), folder, 5, (0.5, 1.5)), True),
        (lambda: Stream(SETTINGS, folder, 6, (0.5, 1.5)), False),
        (lambda: Stream(replace(SETTINGS, difficulty=0.5), folder, 5, (0.5, 1.5)), False),
        (lambda: Stream(SETTINGS, folder, 5, (0.5, 1.25)), False),
    ):
        Stream(SETTINGS, folder, 5, (0.5, 1.5)).settle()
        there.mkdir()
        change().settle()
        assert there.exists() == stays
        shutil.rmtree(folder)
    Stream(SETTINGS, folder, 5).settle()
    there.mkdir()
    monkeypatch.setattr(streaming, "simulator_digest", lambda: "other code")
    Stream(SETTINGS, folder, 5).settle()
    assert not there.exists()

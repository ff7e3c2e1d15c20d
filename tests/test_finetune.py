"""Fine-tuning within a time limit, with tomograms left out in turn."""

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.models.store import UNetModel, load_unet, save_unet
from kaggle_cryoet.models.unet3d import PRESET_SETTINGS, UNetSettings, build_unet
from kaggle_cryoet.training import checkpoints, finetune, rehearsal, side_by_side
from kaggle_cryoet.training.crops import CropDataset, CropSettings, find_labelled_runs, load_labelled_volume
from kaggle_cryoet.training.finetune import FineTuneSettings, fine_tune
from kaggle_cryoet.training.module import UNetModule
from kaggle_cryoet.training.rehearsal import seconds_per_step
from kaggle_cryoet.training.side_by_side import Training, train_side_by_side
from kaggle_cryoet.training.unet import TrainingLength

TINY = UNetSettings(channels=(4, 6))
CROPS = CropSettings(shape_zyx=(16, 24, 32))
FEW = FineTuneSettings(batch_size=2, epochs=2, most_crops=8, least_crops=4)
THRESHOLDS = (0.21, 0.22, 0.23, 0.24, 0.25, 0.26)
CALIBRATION = Calibration(slope=(1.5,) * 6, offset=(-0.5,) * 6)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESET_SETTINGS, "half", TINY)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.manual_seed(8)
    model = UNetModel(
        network=build_unet(TINY), settings=TINY, thresholds=THRESHOLDS, calibration=CALIBRATION, provenance={}
    )
    save_unet(tmp_path / "start", model)
    return tmp_path / "start"


def tune(data: Path, output: Path, start: Path | None, seconds: float) -> finetune.FineTuned:
    return fine_tune(
        [data],
        output,
        time_limit_seconds=seconds,
        start_from=start,
        crops=CROPS,
        settings=FEW,
        device="cpu",
        progress=False,
    )


def test_with_time_every_tomogram_is_left_out_once_and_scored_by_a_network_that_has_not_seen_it(
    labelled_runs: Path, tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[str]] = {}
    genuine = side_by_side.train_unet

    def watched(paths: tuple[str, ...], output: Path, **options: object) -> Path:
        seen[output.name] = {Path(path).parent.parent.name for path in paths}
        return genuine(paths, output, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(side_by_side, "train_unet", watched)
    names = [run.name for run in find_labelled_runs([labelled_runs])]
    result = tune(labelled_runs, tmp_path / "tuned", start, 600)
    assert result.left_out == tuple(names)
    assert seen == {"all": set(names)} | {f"without-{name}": set(names) - {name} for name in names}
    assert result.score is not None
    assert result.score.particles["ribosome"].true == 6
    assert sorted(path.name for path in (tmp_path / "tuned").iterdir()) == ["leave_one_out.json", "unet3d"]
    assert json.loads((tmp_path / "tuned" / "leave_one_out.json").read_text()) == result.score.to_json_dict()
    model = load_unet(result.model)
    assert set(model.provenance["training_runs"]) == set(names)
    assert model.provenance["validation_runs"] == []
    assert model.provenance["leave_one_out"]["score"] == result.score.score


def test_without_time_for_more_there_is_a_network_of_all_tomograms_with_the_thresholds_it_started_with(
    labelled_runs: Path, tmp_path: Path, start: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = tune(labelled_runs, tmp_path / "tuned", start, 0.001)
    assert result.score is None
    assert "no time to leave tomograms out: thresholds are those of the model at the start" in caplog.text
    model = load_unet(result.model)
    assert (model.thresholds, model.calibration) == (THRESHOLDS, CALIBRATION)
    before = load_unet(start).network.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in model.network.state_dict().items())


def interrupted_at(number: int, begun: list[str]) -> Callable[..., Path]:
    """`train_unet`, but for the training of a number, which is interrupted; names of all that are begun are noted."""
    genuine = side_by_side.train_unet

    def train(paths: tuple[str, ...], output: Path, **options: object) -> Path:
        begun.append(output.name)
        if len(begun) == number:
            raise KeyboardInterrupt
        return genuine(paths, output, **options)  # type: ignore[arg-type]

    return train


def test_an_interrupted_fine_tuning_goes_on_and_ends_as_an_unbroken_one(
    labelled_runs: Path, tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = tune(labelled_runs, tmp_path / "unbroken", start, 600)
    begun: list[str] = []
    monkeypatch.setattr(side_by_side, "train_unet", interrupted_at(3, begun))
    with pytest.raises(KeyboardInterrupt):
        tune(labelled_runs, tmp_path / "tuned", start, 600)
    assert load_unet(tmp_path / "tuned" / "unet3d").thresholds == THRESHOLDS  # there already, should this be all
    result = tune(labelled_runs, tmp_path / "tuned", start, 600)
    assert begun == ["all", begun[1], begun[2], begun[2], begun[4]]
    assert result.left_out == unbroken.left_out
    one, other = load_unet(result.model), load_unet(unbroken.model)
    np.testing.assert_allclose(one.thresholds, other.thresholds)
    for name, value in one.network.state_dict().items():
        torch.testing.assert_close(value, other.network.state_dict()[name])


def test_what_an_interrupted_fine_tuning_has_finished_counts_without_time_for_more(
    labelled_runs: Path, tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(side_by_side, "train_unet", interrupted_at(4, begun))
    with pytest.raises(KeyboardInterrupt):
        tune(labelled_runs, tmp_path / "tuned", start, 600)
    result = tune(labelled_runs, tmp_path / "tuned", start, 0.001)
    assert [f"without-{name}" for name in result.left_out] == begun[1:3]
    assert result.score is not None
    assert len(begun) == 4


def test_an_interrupted_fine_tuning_is_not_gone_on_with_for_another_request(
    labelled_runs: Path, tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(paths: tuple[str, ...], output: Path, **options: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side, "train_unet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(labelled_runs, tmp_path / "tuned", start, 600)
    fewer = shutil.copytree(labelled_runs, tmp_path / "fewer")
    shutil.rmtree(find_labelled_runs([fewer])[0].tomogram_path.parents[1])
    others = shutil.copytree(labelled_runs, tmp_path / "others")
    picks = find_labelled_runs([others])[0].picks_directory
    assert picks is not None
    next(picks.glob("*ribosome*")).unlink()
    requests = ((fewer, start, "picks, runs, tomograms"), (others, start, "picks"), (labelled_runs, None, "start"))
    for data, begin, said in requests:
        with pytest.raises(InputError, match=f"gone on with as it began, but {said} changed"):
            tune(data, tmp_path / "tuned", begin, 600)


def test_a_training_that_was_interrupted_after_its_first_epoch_is_gone_on_with(
    labelled_runs: Path, tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = tune(labelled_runs, tmp_path / "unbroken", start, 600)
    genuine = UNetModule.training_step

    def interrupted(module: UNetModule, batch: tuple[torch.Tensor, torch.Tensor], batch_index: int) -> torch.Tensor:
        if module.current_epoch == 1:
            raise KeyboardInterrupt
        return genuine(module, batch, batch_index)

    monkeypatch.setattr(UNetModule, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(labelled_runs, tmp_path / "tuned", start, 600)
    monkeypatch.setattr(UNetModule, "training_step", genuine)
    assert load_unet(tmp_path / "tuned" / ".trainings" / "all" / "unet3d").provenance["epochs"] == 1
    result = tune(labelled_runs, tmp_path / "tuned", start, 600)
    model = load_unet(result.model)
    assert model.provenance["epochs"] == FEW.epochs
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(value, load_unet(unbroken.model).network.state_dict()[name])


def trainings_named(directory: Path, *names: str) -> list[Training]:
    """Trainings on nothing, each with a folder of its name."""
    return [
        Training(
            name=name,
            data=(),
            output=directory / name,
            length=TrainingLength(),
            crops=CROPS,
            preset="half",
            start_from=None,
            seed=0,
        )
        for name in names
    ]


def test_a_training_is_not_begun_that_would_not_end_in_time_but_the_first_always_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def slow(paths: tuple[str, ...], output: Path, **options: object) -> None:
        trained.append(output.name)
        time.sleep(0.3)

    monkeypatch.setattr(side_by_side, "train_unet", slow)
    trainings = trainings_named(tmp_path, "first", "second", "third")
    late = time.monotonic() - 1.0
    assert [t.name for t in train_side_by_side(trainings, [CPU], late, 0.0, progress=False)] == ["first"]
    soon = time.monotonic() + 0.8
    assert [t.name for t in train_side_by_side(trainings, [CPU], soon, 0.1, progress=False)] == ["first", "second"]
    assert trained == ["first", "first", "second"]


def ends_itself(training: Training, device: str) -> float:
    """A stand-in for training, which runs in the process of a GPU."""
    if training.name == "deadly":
        os._exit(9)
    (training.output.parent / f"{training.name} on {os.environ['CUDA_VISIBLE_DEVICES']}").touch()
    time.sleep(1.0 if training.name == "long" else 0.0)
    return 0.0


def test_trainings_in_processes_take_turns_and_one_that_dies_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "_train", ends_itself)
    names = ("long", "a", "b")
    devices = [torch.device("cuda", 0), torch.device("cuda", 1)]
    trainings = trainings_named(tmp_path, *names)
    done = [t.name for t in train_side_by_side(trainings, devices, time.monotonic() + 600, 1.0, progress=False)]
    assert sorted(done) == sorted(names)
    assert len({path.name[-1] for path in tmp_path.iterdir()}) == 2
    late = train_side_by_side(trainings, devices, time.monotonic() - 1, 1.0, progress=False)
    assert [t.name for t in late] == ["long"]
    trainings = trainings_named(tmp_path, "a", "deadly", "b")
    with pytest.raises(InputError, match=r"the process that trained 'deadly' was ended from outside"):
        list(train_side_by_side(trainings, devices, time.monotonic() + 600, 1.0, progress=False))


def test_a_process_sees_its_gpu_by_the_name_that_the_first_process_sees_it_by() -> None:
    devices = [torch.device("cuda", 0), torch.device("cuda", 2)]
    assert side_by_side.names_of_gpus(devices, "") == ["0", "2"]
    assert side_by_side.names_of_gpus(devices, "3,5,GPU-7f") == ["3", "GPU-7f"]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_time_limit_must_be_positive_and_finite(labelled_runs: Path, tmp_path: Path, seconds: float) -> None:
    with pytest.raises(InputError, match="must be positive and finite"):
        fine_tune([labelled_runs], tmp_path / "tuned", time_limit_seconds=seconds)


def test_an_output_that_is_a_file_or_a_broken_plan_is_an_input_error(
    labelled_runs: Path, tmp_path: Path, start: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: is a file; expected a folder to write into"):
        tune(labelled_runs, tmp_path / "file", start, 600)
    (tmp_path / "tuned" / ".trainings").mkdir(parents=True)
    (tmp_path / "tuned" / ".trainings" / "plan.json").write_text('{"folds": 2')
    with pytest.raises(InputError, match="not the plan of a fine-tuning"):
        tune(labelled_runs, tmp_path / "tuned", start, 600)


def test_one_tomogram_is_too_few(labelled_runs: Path, tmp_path: Path) -> None:
    (one, *_) = find_labelled_runs([labelled_runs])
    with pytest.raises(InputError, match="two labelled runs or more"):
        fine_tune([one.tomogram_path], tmp_path / "tuned", time_limit_seconds=10)


def test_what_is_there_already_is_not_replaced(labelled_runs: Path, tmp_path: Path, start: Path) -> None:
    save_unet(tmp_path / "tuned" / "unet3d", load_unet(start))
    before = (tmp_path / "tuned" / "unet3d" / "weights.safetensors").stat().st_mtime_ns
    for begin in (start, tmp_path / "tuned" / "unet3d"):
        with pytest.raises(InputError, match="holds a model already"):
            tune(labelled_runs, tmp_path / "tuned", begin, 600)
    assert (tmp_path / "tuned" / "unet3d" / "weights.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "tuned").iterdir()] == ["unet3d"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": (4, 8)}, "preset 'half' is"),
        ({"localise": "centroids"}, "become centroids, those of preset 'half'"),
    ],
)
def test_a_start_of_another_preset_is_refused_before_anything_is_done(
    labelled_runs: Path, tmp_path: Path, start: Path, changes: dict[str, Any], said: str
) -> None:
    settings = replace(TINY, **changes)
    save_unet(start, replace(load_unet(start), settings=settings, network=build_unet(settings)))
    with pytest.raises(InputError, match=said):
        tune(labelled_runs, tmp_path / "tuned", start, 600)
    assert not (tmp_path / "tuned").exists()


def test_folders_with_weights_are_refused(labelled_runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected folders without weights"):
        tune(Path(f"{labelled_runs}@3"), tmp_path / "tuned", None, 600)


def test_a_rehearsal_divides_the_drawing_among_those_who_draw(
    labelled_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = [load_labelled_volume(run) for run in find_labelled_runs([labelled_runs])]
    draw, augment = CropDataset.__getitem__, rehearsal.augment
    clock = SimpleNamespace(now=0.0)

    def draw_in_half_a_second(dataset: CropDataset, number: int) -> Any:
        clock.now += 0.5
        return draw(dataset, number)

    def compute_in_a_fifth(*args: Any) -> Any:
        clock.now += 0.2
        return augment(*args)

    monkeypatch.setattr(CropDataset, "__getitem__", draw_in_half_a_second)
    monkeypatch.setattr(rehearsal, "augment", compute_in_a_fifth)
    monkeypatch.setattr(rehearsal, "time", SimpleNamespace(monotonic=lambda: clock.now))
    for processes, expected in ((0, 1.2), (1, 1.0), (4, 0.25), (10, 0.2)):
        monkeypatch.setattr(rehearsal, "loader_processes", lambda _, count=processes: count)
        seconds = seconds_per_step(volumes, preset="half", batch_size=2, crops=CROPS, devices=[CPU], most_seconds=100.0)
        assert seconds == pytest.approx(expected)


def test_a_rehearsal_tells_the_time_of_a_step(labelled_runs: Path) -> None:
    volumes = [load_labelled_volume(run) for run in find_labelled_runs([labelled_runs])]
    began = time.monotonic()
    step = seconds_per_step(volumes, preset="half", batch_size=2, crops=CROPS, devices=[CPU], most_seconds=10.0)
    assert 0 < 6 * step < time.monotonic() - began
    assert seconds_per_step(volumes, preset="half", batch_size=2, crops=CROPS, devices=[CPU], most_seconds=0.0) > 0


def test_a_rehearsal_that_is_cut_short_while_it_warms_up_counts_all_its_steps(
    labelled_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = [load_labelled_volume(run) for run in find_labelled_runs([labelled_runs])]
    clock = itertools.count(1)
    monkeypatch.setattr(rehearsal.time, "monotonic", lambda: float(next(clock)))
    # begun at 1; a step asks three times, the last one whether it is time to end: at 4, and at 7, which is; ended at 8
    step = seconds_per_step(volumes, preset="half", batch_size=2, crops=CROPS, devices=[CPU], most_seconds=4.0)
    assert step == (8 - 1) / 2


def fails_or_goes_on(training: Training, device: str) -> float:
    """A stand-in for training, which runs in the process of a GPU."""
    if training.name == "fails":
        raise InputError("the disk is full")
    time.sleep(600.0)
    return 0.0


def test_what_fails_on_one_gpu_is_told_before_the_training_on_another_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "_train", fails_or_goes_on)
    devices = [torch.device("cuda", 0), torch.device("cuda", 1)]
    trainings = trainings_named(tmp_path, "long", "fails")
    began = time.monotonic()
    with pytest.raises(InputError, match="the disk is full"):
        list(train_side_by_side(trainings, devices, time.monotonic() + 600, 1.0, progress=False))
    assert time.monotonic() - began < 300


def test_a_training_that_ended_between_its_first_model_and_its_first_checkpoint_begins_anew(
    labelled_runs: Path, tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise InputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.SaveCheckpoint, "on_train_epoch_end", full)
        with pytest.raises(InputError, match="the disk is full"):
            tune(labelled_runs, tmp_path / "tuned", start, 600)
    assert (tmp_path / "tuned" / ".trainings" / "all" / "unet3d").is_dir()
    assert tune(labelled_runs, tmp_path / "tuned", start, 600).model.is_dir()

import csv
import functools
import json
import shutil
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from kaggle_cryoet.copick import write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import load_unet, save_unet
from kaggle_cryoet.models.unet3d import PRESET_SETTINGS, UNetSettings
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.picking.candidates import LocaliseSettings
from kaggle_cryoet.picking.equalise import mean_spectrum
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.tomogram import Tomogram, write_tomogram
from kaggle_cryoet.training import checkpoints, keep_within_time, unet
from kaggle_cryoet.training.augment import AugmentSettings
from kaggle_cryoet.training.crops import CropSettings
from kaggle_cryoet.training.data import DataSettings
from kaggle_cryoet.training.faults import raise_as_here
from kaggle_cryoet.training.losses import LossSettings
from kaggle_cryoet.training.module import OptimiserSettings, UNetModule, UNetTrainingSettings
from kaggle_cryoet.training.stream import StreamSettings
from kaggle_cryoet.training.trainer import devices_that_share
from kaggle_cryoet.training.unet import TrainingLength, train_unet
from kaggle_cryoet.training.volumes import find_labelled_runs, load_labelled_volume
from kaggle_cryoet.whole_file import sole_folder

SHAPE = (34, 40, 48)
VOXEL_ANGSTROM = 10.0
CROPS = CropSettings(shape_zyx=(32, 32, 32))
TWO_EPOCHS = TrainingLength(epochs=2, crops_per_epoch=4, batch_size=2, validate_every=2, ema_decay=0.5)
FOUR_EPOCHS = replace(TWO_EPOCHS, epochs=4)


def write_runs(directory, names, *, seed=0, labels=(0, 3, 5), with_picks=True):
    """Runs of noise in the competition's layout, with a particle of each label at any place."""
    rng = np.random.default_rng(seed)
    for name in names:
        data = rng.normal(size=SHAPE).astype(np.float32)
        path = directory / "static" / "ExperimentRuns" / name / "VoxelSpacing10.000" / "denoised.zarr"
        write_tomogram(path, Tomogram(data=data, voxel_angstrom=VOXEL_ANGSTROM, name=name), levels=1)
        position = rng.uniform(0, np.array(SHAPE) - 1, (len(labels), 3)) * VOXEL_ANGSTROM
        picks = Picks(position_zyx_angstrom=position, label=np.array(labels, dtype=np.int64))
        if with_picks:
            write_copick(directory / "overlay" / "ExperimentRuns" / name / "Picks", picks, name)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("data"), ["a", "b", "c"])


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    monkeypatch.setitem(PRESET_SETTINGS, "half", UNetSettings(channels=(4, 6)))
    monkeypatch.setitem(PRESET_SETTINGS, "host", UNetSettings(preset="host", channels=(4, 6, 6)))


def train(folder, output, **options):
    options = {"length": TWO_EPOCHS, "crops": CROPS, "device": "cpu", "progress": False} | options
    return train_unet([folder], output, **options)


def weights_of(model_folder):
    return {name: value.numpy() for name, value in load_unet(model_folder).network.state_dict().items()}


def log_of(output):
    with (output / "log" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def interrupt_at(monkeypatch, step, error=KeyboardInterrupt):
    """Have the training stop before an optimiser step."""
    training_step = UNetModule.training_step

    def interrupted(self, batch, batch_index):
        if self.global_step == step:
            raise error
        return training_step(self, batch, batch_index)

    monkeypatch.setattr(UNetModule, "training_step", interrupted)


def test_a_training_leaves_a_model_a_log_and_a_checkpoint_and_says_little(data, tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    folder = train(data, tmp_path / "out", seed=7)
    assert capfd.readouterr() == ("", "")
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "c",  # is held out
        "no picks of beta-amylase, beta-galactosidase, thyroglobulin in any tomogram",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    files = sorted(str(path.relative_to(folder.parent)) for path in folder.parent.rglob("*") if path.is_file())
    assert files == [
        "checkpoints/last.ckpt",
        "log/curves.png",
        "log/metrics.csv",
        "unet3d/model.json",
        "unet3d/weights.safetensors",
    ]

    model = load_unet(folder)
    assert replace(model.settings, spectrum=()) == UNetSettings(channels=(4, 6))
    trained_on = [load_labelled_volume(run).volume.astype(np.float32) for run in find_labelled_runs([data])[:2]]
    np.testing.assert_allclose(model.settings.spectrum, mean_spectrum(trained_on))
    assert all(0.05 <= threshold < 1 for threshold in model.thresholds)
    origin = model.provenance
    assert (origin["seed"], origin["epochs"], origin["started_from"]) == (7, 2, None)
    assert (origin["training_runs"], origin["validation_runs"]) == (["a", "b"], ["c"])
    assert origin["crops"]["shape_zyx"] == [32, 32, 32]
    assert list(origin["validation"]["particles"]) == list(PARTICLE_NAMES)

    log = log_of(tmp_path / "out")
    losses = [float(row["loss"]) for row in log if row["loss"]]
    scores = [(row["epoch"], float(row["score"])) for row in log if row["score"]]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert [epoch for epoch, _ in scores] == ["0", "1"]
    assert scores[1][1] == pytest.approx(origin["validation"]["score"])
    assert {"fbeta_ribosome", "dice_ribosome"} <= set(log[0])


def test_an_interrupted_training_that_goes_on_is_the_unbroken_one(data, tmp_path, monkeypatch):
    train(data, tmp_path / "unbroken", length=FOUR_EPOCHS)
    on_interrupt = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "broken", length=FOUR_EPOCHS)
    assert signal.getsignal(signal.SIGINT) is on_interrupt
    assert json.loads((tmp_path / "broken" / "unet3d" / "model.json").read_text())["provenance"]["epochs"] == 2
    train(data, tmp_path / "broken", length=FOUR_EPOCHS, resume=True)

    losses = [row["loss"] for row in log_of(tmp_path / "broken") if row["loss"]]
    assert len(set(losses)) == 4
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "unbroken")
    expected = weights_of(tmp_path / "unbroken" / "unet3d")
    for name, value in weights_of(tmp_path / "broken" / "unet3d").items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert load_unet(tmp_path / "broken/unet3d").thresholds == load_unet(tmp_path / "unbroken/unet3d").thresholds
    saved = [
        torch.load(tmp_path / output / "checkpoints" / "last.ckpt", weights_only=False)
        for output in ("broken", "unbroken")
    ]
    for name, value in saved[0]["current_model_state"].items():
        assert torch.equal(value, saved[1]["current_model_state"][name]), name


class Clock:
    """Seconds that pass with the steps of a training, and with its looks at the score, alone."""

    def __init__(self, monkeypatch, *seconds_per_step, look=0.0):
        self.now = 100.0
        self.steps = iter(seconds_per_step)
        training_step = UNetModule.training_step

        def timed(module, batch, batch_index):
            self.now += next(self.steps)
            return training_step(module, batch, batch_index)

        end_of_look = UNetModule.on_validation_epoch_end

        def looked(module):
            self.now += look
            return end_of_look(module)

        monkeypatch.setattr(UNetModule, "training_step", timed)
        monkeypatch.setattr(UNetModule, "on_validation_epoch_end", looked)
        for module in (unet, keep_within_time):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_a_time_limit_shortens_the_schedule_to_the_epochs_that_fit(data, tmp_path, monkeypatch):
    length = replace(TWO_EPOCHS, epochs=8)
    with monkeypatch.context() as patch:
        clock = Clock(patch, *[5.0] * 6)  # three epochs of two steps; a fourth would end after 40 seconds
        folder = train(data, tmp_path / "unbroken", length=length, time_limit_seconds=39.0)
        assert clock.now == 130
    assert load_unet(folder).provenance["epochs"] == 3
    assert len([row for row in log_of(tmp_path / "unbroken") if row["loss"]]) == 3
    checkpoint = torch.load(tmp_path / "unbroken" / "checkpoints" / "last.ckpt", weights_only=False)
    rate = checkpoint["lr_schedulers"][0]["_last_lr"][0]
    assert rate == pytest.approx(OptimiserSettings().learning_rate * OptimiserSettings().final_fraction)

    with monkeypatch.context() as patch:
        Clock(patch, *[5.0] * 6)
        interrupt_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "broken", length=length, time_limit_seconds=39.0)
    assert train(data, tmp_path / "broken", length=length, resume=True).name == "unet3d"
    expected = weights_of(tmp_path / "unbroken" / "unet3d")
    for name, value in weights_of(tmp_path / "broken" / "unet3d").items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_looks_at_the_score_do_not_count_as_if_every_epoch_had_one(data, tmp_path, monkeypatch):
    clock = Clock(monkeypatch, *[5.0] * 16, look=20.0)  # of the first epoch and the last: 8 of 10 seconds and 2 of 20
    length = replace(TWO_EPOCHS, epochs=20, validate_every=20)
    folder = train(data, tmp_path / "out", length=length, time_limit_seconds=131.0)
    assert load_unet(folder).provenance["epochs"] == 8
    assert clock.now == 100 + 8 * 10 + 2 * 20


def test_a_training_that_a_time_limit_ends_sooner_than_it_was_planned_is_kept_all_the_same(data, tmp_path, monkeypatch):
    Clock(monkeypatch, *[5.0] * 4, *[20.0] * 2)  # the third of epochs is four times as long
    length = replace(TWO_EPOCHS, epochs=8, validate_every=4, keep=2)
    folder = train(data, tmp_path / "out", length=length, time_limit_seconds=79.0)
    assert load_unet(folder).provenance["epochs"] == 3
    assert sorted(path.name for path in (tmp_path / "out" / "models").iterdir()) == ["epoch-0001", "epoch-0003"]


def test_what_is_resumed_and_ended_before_a_look_at_the_score_keeps_its_thresholds(data, tmp_path, monkeypatch):
    length = replace(TWO_EPOCHS, epochs=8, validate_every=4)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "out", length=length)
    before = load_unet(tmp_path / "out" / "unet3d")
    assert before.provenance["epochs"] == 1
    Clock(monkeypatch, 5.0, 5.0)
    after = load_unet(train(data, tmp_path / "out", length=length, resume=True, time_limit_seconds=12.0))
    assert after.provenance["epochs"] == 2
    assert (after.thresholds, after.calibration) == (before.thresholds, before.calibration)
    assert after.thresholds != (0.5,) * 6
    written = (tmp_path / "out" / "unet3d" / "weights.safetensors").stat().st_mtime_ns
    train(data, tmp_path / "out", length=length, resume=True)  # its schedule is at its end
    assert (tmp_path / "out" / "unet3d" / "weights.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_time_limit_is_refused(data, tmp_path, limit):
    with pytest.raises(InputError, match="positive and finite"):
        train(data, tmp_path / "out", time_limit_seconds=limit)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_processes_draw_from_a_stream_is_what_one_draws_also_after_an_interruption(data, tmp_path, monkeypatch):
    stream = StreamSettings(shape_zyx=(40, 48, 56), volumes=2, fresh=1)
    options = {"length": FOUR_EPOCHS, "data": DataSettings(stream=stream)}
    (tmp_path / "unbroken" / unet.STREAM_FOLDER / "0").mkdir(parents=True)  # left by another
    train(data, tmp_path / "unbroken", **options)
    with monkeypatch.context() as patch:
        patch.setattr(unet, "loader_processes", lambda devices: 2)
        with patch.context() as interrupting:
            interrupt_at(interrupting, 5)
            with pytest.raises(KeyboardInterrupt):
                train(data, tmp_path / "broken", **options)
        assert (tmp_path / "broken" / unet.STREAM_FOLDER / "3").is_dir()
        more = {"data": DataSettings(stream=replace(stream, processes=2), memory_gb=1.0)}
        train(data, tmp_path / "broken", resume=True, **options | more)
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "unbroken")
    expected = weights_of(tmp_path / "unbroken" / "unet3d")
    for name, value in weights_of(tmp_path / "broken" / "unet3d").items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert not (tmp_path / "broken" / unet.STREAM_FOLDER).exists()


def test_a_training_that_looks_at_nothing_goes_on_after_its_first_epoch(data, tmp_path, monkeypatch):
    options = {"length": replace(FOUR_EPOCHS, validate_every=4), "hold_out": False}
    train(data, tmp_path / "unbroken", **options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "broken", **options)
    train(data, tmp_path / "broken", resume=True, **options)
    expected = weights_of(tmp_path / "unbroken" / "unet3d")
    for name, value in weights_of(tmp_path / "broken" / "unet3d").items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    settings = [load_unet(tmp_path / output / "unet3d").settings for output in ("broken", "unbroken")]
    assert settings[0] == settings[1]


def test_a_finished_training_can_be_resumed_and_stays_what_it_is(data, tmp_path, caplog):
    train(data, tmp_path)
    log, weights = log_of(tmp_path), weights_of(tmp_path / "unet3d")
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    train(data, tmp_path, resume=True)
    assert "all 2 epochs are done; there is nothing to resume" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
    assert log_of(tmp_path) == log
    for name, value in weights_of(tmp_path / "unet3d").items():
        np.testing.assert_array_equal(value, weights[name])


def test_a_training_of_an_earlier_version_is_gone_on_with_as_if_it_had_the_usual_settings(data, tmp_path):
    train(data, tmp_path)
    path = tmp_path / "unet3d" / "model.json"
    content = json.loads(path.read_text())
    del content["provenance"]["training_picks"], content["provenance"]["data"]["adapt"]
    path.write_text(json.dumps(content))
    train(data, tmp_path, resume=True)
    with pytest.raises(InputError, match=r"but data\.adapt changed"):
        train(data, tmp_path, resume=True, data=DataSettings(adapt=AdaptSettings(tilt_axis="y")))


def test_what_is_scored_is_the_average_of_the_weights_that_is_saved(data, tmp_path, monkeypatch):
    from kaggle_cryoet.training import module

    scored = {}

    def scores(network, volume, settings, device):
        scored.update({name: value.numpy(force=True).copy() for name, value in network.state_dict().items()})
        return genuine(network, volume, settings, device)

    genuine = module._scores
    monkeypatch.setattr(module, "_scores", scores)
    train(data, tmp_path)
    raw = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=False)["current_model_state"]
    for name, value in weights_of(tmp_path / "unet3d").items():
        np.testing.assert_allclose(value, scored[name], rtol=1e-3, atol=1e-7, err_msg=name)
    assert np.abs(scored["stem.weight"] - raw["network.stem.weight"].numpy()).max() > 1e-4


@pytest.mark.parametrize(("epochs", "looks"), [(1, ["0"]), (3, ["0", "1", "2"]), (6, ["0", "3", "5"])])
def test_the_score_is_looked_at_after_the_first_and_the_last_epoch_in_any_case(data, tmp_path, epochs, looks):
    every = 4 if epochs == 6 else 2
    folder = train(data, tmp_path, length=replace(TWO_EPOCHS, epochs=epochs, validate_every=every))
    assert load_unet(folder).provenance["epochs"] == epochs
    assert [row["epoch"] for row in log_of(tmp_path) if row["score"]] == looks


def test_a_training_starts_from_the_weights_of_a_model(data, tmp_path):
    first = train(data, tmp_path / "first", seed=1)
    standing_still = UNetTrainingSettings(optimiser=OptimiserSettings(learning_rate=1e-12))
    second = train(data, tmp_path / "second", seed=2, start_from=first, settings=standing_still)
    expected = weights_of(first)
    for name, value in weights_of(second).items():
        if "running" not in name and "num_batches" not in name:
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-7, err_msg=name)
    assert load_unet(second).provenance["started_from"] == load_unet(first).provenance


def test_held_statistics_stay_those_of_the_start_while_weights_are_learned(data, tmp_path):
    first = train(data, tmp_path / "first", seed=1)
    holding = UNetTrainingSettings(hold_statistics=True)
    expected = weights_of(first)
    held = weights_of(train(data, tmp_path / "held", seed=2, start_from=first, settings=holding))
    free = weights_of(train(data, tmp_path / "free", seed=2, start_from=first))
    statistics = [name for name in expected if "running" in name]
    assert statistics
    for name in statistics:
        np.testing.assert_allclose(held[name], expected[name], rtol=1e-3, atol=1e-7, err_msg=name)
        assert np.abs(free[name] - expected[name]).max() > 1e-4, name
    assert np.abs(held["stem.weight"] - expected["stem.weight"]).max() > 1e-5


def test_statistics_can_only_be_held_if_there_are_some(data, tmp_path):
    with pytest.raises(InputError, match="hold_statistics holds those of a model to start from, and none is given"):
        train(data, tmp_path / "out", settings=UNetTrainingSettings(hold_statistics=True))
    assert not (tmp_path / "out").exists()


def test_a_training_that_goes_on_remembers_what_it_started_from(data, tmp_path, monkeypatch):
    first = train(data, tmp_path / "first", seed=1)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "second", start_from=first)
    second = load_unet(train(data, tmp_path / "second", resume=True))
    assert second.provenance["epochs"] == TWO_EPOCHS.epochs
    assert second.provenance["started_from"] == load_unet(first).provenance


def test_a_training_keeps_the_spectrum_that_its_start_knows(data, tmp_path):
    first = train(data, tmp_path / "first", seed=1, length=replace(TWO_EPOCHS, epochs=1))
    known = load_unet(first).settings.spectrum
    other = write_runs(tmp_path / "other", ["d", "e"], seed=5)
    kept = train(other, tmp_path / "kept", start_from=first, length=replace(TWO_EPOCHS, epochs=1))
    assert load_unet(kept).settings.spectrum == known
    fresh = train(other, tmp_path / "fresh", length=replace(TWO_EPOCHS, epochs=1))
    assert load_unet(fresh).settings.spectrum != known


def test_the_full_resolution_network_trains_as_well(data, tmp_path):
    folder = train(data, tmp_path, preset="host", length=replace(TWO_EPOCHS, epochs=1))
    assert load_unet(folder).settings.preset == "host"


def test_the_papers_system_trains_with_spheres_and_its_model_is_localised_by_centroids(data, tmp_path):
    folder = train(data, tmp_path, preset="paper", length=replace(TWO_EPOCHS, epochs=1))
    model = load_unet(folder)
    assert model.settings == UNetSettings(preset="host", channels=(4, 6, 6), localise="centroids")
    assert model.provenance["training"]["targets"]["shape"] == "sphere"
    assert model.provenance["training"]["loss"]["name"] == "tversky"
    assert PickSettings().localise_for(model).method == "centroids"
    description = json.loads((folder / "model.json").read_text())
    del description["settings"]["localise"]  # as in models that were written before there was a choice
    (folder / "model.json").write_text(json.dumps(description))
    assert load_unet(folder).settings.localise == "maxima"
    train(data, tmp_path / "again", preset="paper", start_from=folder, length=replace(TWO_EPOCHS, epochs=1))


@pytest.mark.parametrize("name", ["tversky", "focal", "squares"])
def test_other_losses_are_tried_by_a_setting(data, tmp_path, name):
    settings = UNetTrainingSettings(loss=LossSettings(name=name), augmentation=AugmentSettings(mixup=0.5))
    folder = train(data, tmp_path, settings=settings, length=replace(TWO_EPOCHS, epochs=1))
    assert load_unet(folder).provenance["training"]["loss"]["name"] == name


def test_the_latest_models_are_kept_for_an_average(data, tmp_path):
    train(data, tmp_path, length=replace(FOUR_EPOCHS, validate_every=1, keep=2))
    kept = sorted((tmp_path / "models").iterdir())
    assert [path.name for path in kept] == ["epoch-0003", "epoch-0004"]
    for name, value in weights_of(kept[-1]).items():
        np.testing.assert_array_equal(value, weights_of(tmp_path / "unet3d")[name])


def test_a_training_from_files_is_the_one_from_memory_and_leaves_none_of_them(data, tmp_path):
    train(data, tmp_path / "memory")
    train(data, tmp_path / "files", data=DataSettings(memory_gb=0.0))
    assert log_of(tmp_path / "memory") == log_of(tmp_path / "files")
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["checkpoints", "log", "unet3d"]


@pytest.mark.slow
def test_two_processes_train_what_one_does(data, tmp_path, monkeypatch):
    still = replace(CROPS, warp_fraction=0.0)
    no_noise = AugmentSettings(log_scale=0, offset=0, sharpening=0, middle=0, noise=0, least_gamma=1, scrambling=0)
    # the network without BatchNorm, whose statistics are of a batch
    paper = UNetTrainingSettings(augmentation=no_noise)
    options = {"preset": "host", "settings": paper, "crops": still}
    train(data, tmp_path / "one", **options)
    monkeypatch.setattr(unet, "choose_devices", lambda _: [torch.device("cpu")] * 2)
    train(data, tmp_path / "two", **options)
    rows = [log_of(tmp_path / name) for name in ("one", "two")]
    losses = [[float(row["loss"]) for row in log if row["loss"]] for log in rows]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)
    expected = weights_of(tmp_path / "one" / "unet3d")
    for name, value in weights_of(tmp_path / "two" / "unet3d").items():
        np.testing.assert_allclose(value, expected[name], atol=5e-3, err_msg=name)


def test_features_are_mixed_in_a_training_that_goes_on_as_it_would_have_and_is_another_than_without(
    data, tmp_path, monkeypatch
):
    mixing = {"settings": UNetTrainingSettings(feature_mixing=1.0)}
    train(data, tmp_path / "plain")
    train(data, tmp_path / "unbroken", **mixing)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "broken", **mixing)
    with pytest.raises(InputError, match=r"training\.feature_mixing changed"):
        train(data, tmp_path / "broken", resume=True)
    train(data, tmp_path / "broken", resume=True, **mixing)
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "unbroken") != log_of(tmp_path / "plain")
    plain, expected = weights_of(tmp_path / "plain" / "unet3d"), weights_of(tmp_path / "unbroken" / "unet3d")
    for name, value in weights_of(tmp_path / "broken" / "unet3d").items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert np.abs(plain["stem.weight"] - expected["stem.weight"]).max() > 1e-5


def test_features_are_mixed_in_the_network_of_half_alone(data, tmp_path):
    with pytest.raises(
        InputError, match="features can be mixed in the network of preset 'half', and not in that of 'h"
    ):
        train(data, tmp_path / "out", preset="host", settings=UNetTrainingSettings(feature_mixing=0.5))
    assert not (tmp_path / "out").exists()


def test_validation_runs_can_be_given_apart(data, tmp_path):
    other = write_runs(tmp_path / "other", ["d", "e"], seed=1)
    length = replace(TWO_EPOCHS, epochs=1)
    origin = load_unet(train(data, tmp_path / "out", validation_directories=[other], length=length)).provenance
    assert (origin["training_runs"], origin["validation_runs"]) == (["a", "b", "c"], ["d", "e"])


def test_a_disk_that_is_full_is_an_input_error_and_the_last_checkpoint_stays(data, tmp_path, monkeypatch):
    train(data, tmp_path / "one", length=replace(TWO_EPOCHS, epochs=1))
    expected = torch.load(tmp_path / "one" / "checkpoints" / "last.ckpt", weights_only=False)["epoch"]
    import lightning

    save_checkpoint = lightning.Trainer.save_checkpoint

    def full(self, path, *args):
        if self.current_epoch == 1:
            path.write_bytes(b"the first few bytes")
            raise OSError(28, "No space left on device")
        save_checkpoint(self, path, *args)

    monkeypatch.setattr(lightning.Trainer, "save_checkpoint", full)
    with pytest.raises(InputError, match="No space left"):
        train(data, tmp_path / "two")
    assert [path.name for path in (tmp_path / "two" / "checkpoints").iterdir()] == ["last.ckpt"]
    assert torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=False)["epoch"] == expected


@pytest.mark.parametrize("validate_every", [1, 4])
def test_a_loss_that_is_no_number_ends_the_training_and_leaves_what_was_saved(
    data, tmp_path, monkeypatch, validate_every
):
    length = replace(FOUR_EPOCHS, validate_every=validate_every)
    training_step = UNetModule.training_step

    def broken(self, batch, batch_index):
        loss = training_step(self, batch, batch_index)
        return loss * float("nan") if self.global_step == 2 else loss

    with monkeypatch.context() as patch:
        patch.setattr(UNetModule, "training_step", broken)
        with pytest.raises(InputError, match=r"loss is not a number any more in epoch 2.*learning_rate"):
            train(data, tmp_path, length=length)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=False)
    assert saved["epoch"] == 0
    assert all(np.isfinite(value).all() for value in weights_of(tmp_path / "unet3d").values())
    train(data, tmp_path, length=length, resume=True)
    assert load_unet(tmp_path / "unet3d").provenance["epochs"] == 4


def test_a_disk_that_is_full_when_the_model_is_written_leaves_the_one_before(data, tmp_path, monkeypatch):
    from kaggle_cryoet.models import folder

    write_weights, times = folder.write_weights, []

    def full(path, network):
        times.append(path)
        if len(times) == 2:
            path.write_bytes(b"the first few bytes")
            raise OSError(28, "No space left on device")
        write_weights(path, network)

    monkeypatch.setattr(folder, "write_weights", full)
    with pytest.raises(InputError, match=r"unet3d: the model cannot be written .*No space left"):
        train(data, tmp_path)
    assert load_unet(tmp_path / "unet3d").provenance["epochs"] == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


told = functools.partial(raise_as_here, smaller=", as of a half")


def test_what_fails_in_the_process_of_a_device_is_told_as_what_it_is(tmp_path):
    def failed(said):
        return ProcessRaisedException(f"Traceback\n  File x\n{said}", 1, 1)

    with pytest.raises(InputError, match="picks are faulty"):
        told(failed("kaggle_cryoet.errors.InputError: picks are faulty"), tmp_path)
    with pytest.raises(InputError, match=r"cannot be written .*No space left"):
        told(failed("OSError: [Errno 28] No space left on device"), tmp_path)
    with pytest.raises(InputError, match=r"cannot be written .*Permission denied"):
        told(failed("PermissionError: [Errno 13] Permission denied: 'x'"), tmp_path)
    with pytest.raises(InputError, match=r"the training ended: OSError \(\[Errno 24\] Too many open files\)"):
        told(failed("OSError: [Errno 24] Too many open files"), tmp_path)
    with pytest.raises(InputError, match=r"^picks are faulty:\nTS_1: no radius$"):
        told(failed("kaggle_cryoet.errors.InputError: picks are faulty:\nTS_1: no radius"), tmp_path)
    with pytest.raises(ProcessRaisedException, match="CUDA"):
        told(failed("RuntimeError: CUDA error"), tmp_path)
    killed = "DataLoader worker (pid 7) is killed by signal: Killed. "
    for error in (RuntimeError(killed), failed(f"RuntimeError: {killed}")):
        with pytest.raises(InputError, match=r"ended from outside \(DataLoader worker .*Killed\); was memory short\?$"):
            told(error, tmp_path)
    with pytest.raises(InputError, match=r"^CUDA out of memory; smaller batches need less, as of a half$"):
        told(failed("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"), tmp_path)
    with pytest.raises(InputError, match=r"^CUDA out of memory; smaller batches need less, as of a half$"):
        told(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), tmp_path)


def test_a_training_that_fails_while_it_reads_leaves_no_tomograms_on_the_disk(tmp_path):
    data = write_runs(tmp_path / "data", ["a", "b", "c", "d"])
    far = Picks(position_zyx_angstrom=np.full((1, 3), 1e5), label=np.array([0]))
    write_copick(data / "overlay" / "ExperimentRuns" / "c" / "Picks", far, "c")
    with pytest.raises(InputError, match="outside"):
        train(data, tmp_path / "out", data=DataSettings(memory_gb=0.0))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == []


class Faulty(torch.utils.data.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize("error", [InputError("picks are faulty"), OSError(28, "No space left on device")])
def test_what_fails_in_the_process_of_a_loader_is_told_in_one_line(tmp_path, error):
    with pytest.raises(type(error)) as caught:
        next(iter(torch.utils.data.DataLoader(Faulty(error), num_workers=1)))
    assert "Traceback" in str(caught.value)
    with pytest.raises(InputError, match=r"picks are faulty|cannot be written .*No space left") as raised:
        told(caught.value, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_training_process_that_is_killed_is_an_input_error(data, tmp_path, monkeypatch):
    def killed(*arguments, **options):
        raise ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 1, -9)

    monkeypatch.setattr(lightning.Trainer, "fit", killed)
    with pytest.raises(InputError, match=r"ended from outside \(process 1 .*SIGKILL\); was memory short"):
        train(data, tmp_path)


def test_of_how_scores_become_points_a_model_keeps_the_method_alone(data, tmp_path):
    settings = UNetTrainingSettings(localise=LocaliseSettings(suppression_radius=0.7))
    with pytest.raises(InputError, match="keeps the method by which its scores become points alone"):
        train(data, tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()


def test_as_many_devices_take_part_as_divide_a_batch_and_one_in_a_notebook(monkeypatch):
    gpus = [torch.device("cuda", number) for number in range(3)]
    assert devices_that_share(gpus, 6) == gpus
    assert devices_that_share(gpus, 4) == gpus[:2]
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert devices_that_share(gpus, 6) == gpus[:1]


def test_several_devices_share_what_is_in_files(data, tmp_path, monkeypatch):
    asked = []

    def noted(sources, held_out, settings, **options):
        asked.append(settings.memory_gb)
        raise InputError("enough")

    monkeypatch.setattr(unet, "load_split", noted)
    for devices in (1, 2):
        monkeypatch.setattr(unet, "devices_that_share", lambda *_, count=devices: [torch.device("cpu")] * count)
        with pytest.raises(InputError, match="enough"):
            train(data, tmp_path)
    assert asked == [8.0, 0.0]


def test_a_checkpoint_must_be_whole_and_of_the_same_training(data, tmp_path):
    with pytest.raises(InputError, match="no checkpoint to resume from"):
        train(data, tmp_path, resume=True)
    train(data, tmp_path, length=replace(TWO_EPOCHS, epochs=1), seed=3)
    with pytest.raises(InputError, match="holds a training already"):
        train(data, tmp_path, seed=3)
    with pytest.raises(InputError, match="steps = 2, got 4"):
        train(data, tmp_path, seed=3, resume=True)
    with pytest.raises(InputError, match="seed = 3, got 4"):
        train(data, tmp_path, length=replace(TWO_EPOCHS, epochs=1), seed=4, resume=True)
    with pytest.raises(InputError, match="another network"):
        train(data, tmp_path, preset="host", resume=True)
    one = {"length": replace(TWO_EPOCHS, epochs=1), "seed": 3, "resume": True}
    with pytest.raises(InputError, match=r"but crops\.scale, data\.tomogram_types changed"):
        train(data, tmp_path, crops=replace(CROPS, scale=0.1), data=DataSettings(tomogram_types=("wbp",)), **one)
    with pytest.raises(InputError, match="but training_weights changed"):
        train(f"{data}@5", tmp_path, **one)
    as_long = {"length": replace(TWO_EPOCHS, epochs=2, crops_per_epoch=2), "seed": 3}
    assert as_long["length"].steps == one["length"].steps
    with pytest.raises(InputError, match=r"but length\.crops_per_epoch, length\.epochs changed"):
        train(data, tmp_path, resume=True, **as_long)
    with pytest.raises(
        InputError, match="but training_picks, training_runs, training_weights, validation_runs changed"
    ):
        train(data, tmp_path, validation_directories=[write_runs(tmp_path / "more", ["d"], seed=5)], **one)
    with pytest.raises(InputError, match="but training_picks changed"):
        train(write_runs(tmp_path / "others", ["a", "b", "c"], seed=9), tmp_path, **one)
    path = tmp_path / "checkpoints" / "last.ckpt"
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no checkpoint", b"In the way"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="not a whole checkpoint"):
            train(data, tmp_path, length=replace(TWO_EPOCHS, epochs=1), seed=3, resume=True)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="not a whole checkpoint"):
        train(data, tmp_path, resume=True)


def test_the_log_of_epochs_that_are_done_again_is_dropped(tmp_path):
    (tmp_path / "log").mkdir()
    rows = "dice,epoch,loss,score,step\n,0,0.5,,1\n,1,,0.25,3\n,1,0.4,,3\n,2,,0.75,5\n0.1"  # the disk was full
    (tmp_path / "log" / "metrics.csv").write_text(rows)
    checkpoints.csv_logger(tmp_path, 2).log_metrics({"epoch": 2, "loss": 0.3}, 5)
    assert [(row["epoch"], row["loss"], row["score"]) for row in log_of(tmp_path)] == [
        ("0", "0.5", ""),
        ("1", "", "0.25"),
        ("1", "0.4", ""),
    ]


def test_the_learning_rate_rises_evenly_and_falls_as_a_cosine():
    chosen = OptimiserSettings(warmup_fraction=0.1, final_fraction=0.02)
    factors = np.array([chosen.factor(step, 1000) for step in range(1001)])
    np.testing.assert_allclose(factors[:100], np.arange(1, 101) / 100)
    np.testing.assert_allclose(factors[100:], 0.51 + 0.49 * np.cos(np.linspace(0, np.pi, 901)))
    assert factors[-1] == pytest.approx(0.02)
    assert chosen.factor(0, 1) == 1.0
    assert chosen.factor(2000, 1000) == pytest.approx(0.02)


def test_data_that_cannot_be_trained_on_is_an_input_error(data, tmp_path):
    def fails(match, directory, **options):
        with pytest.raises(InputError, match=match):
            train(directory, tmp_path / "out", **options)

    one = write_runs(tmp_path / "one", ["alone"])
    fails("does not exist", tmp_path / "nowhere")
    fails("one run alone leaves none", one)
    fails("no run has picks, not even a", write_runs(tmp_path / "bare", ["a", "b"], with_picks=False))
    fails("have no particles", write_runs(tmp_path / "empty", ["a", "b"], labels=()))
    fails("both trained on and validated on", data, validation_directories=[data])
    fails("different names", data, validation_directories=[one, write_runs(tmp_path / "two", ["alone"], seed=1)])
    fails("no such model folder", data, start_from=tmp_path / "nowhere")
    fails("unknown preset", data, preset="full")
    fails("unknown device", data, device="gpu")
    fails("multiples of 4", data, crops=CropSettings(shape_zyx=(32, 34, 32)))
    fails("less than half of a crop", data, crops=CropSettings(shape_zyx=(32, 128, 32)))
    fails("a seed is from 0", data, seed=-1)
    fails("a seed is from 0", data, seed=2**32)
    outside = Picks(position_zyx_angstrom=np.array([[0.0, 0.0, 1e4]]), label=np.array([3]))
    write_copick(one / "overlay" / "ExperimentRuns" / "alone" / "Picks", outside, "alone")
    fails("outside the volume", one, validation_directories=[data])
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_network_cannot_be_started_from(data, tmp_path, monkeypatch):
    other = train(data, tmp_path / "host", preset="host", length=replace(TWO_EPOCHS, epochs=1))
    with pytest.raises(InputError, match="preset 'half' is"):
        train(data, tmp_path / "half", start_from=other)


def test_an_output_that_cannot_be_written_is_an_input_error(data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file/out: cannot be made: Not a directory"):
        train(data, tmp_path / "file" / "out")


@pytest.mark.parametrize(
    "settings",
    [
        lambda: TrainingLength(epochs=0),
        lambda: TrainingLength(crops_per_epoch=10, batch_size=4),
        lambda: TrainingLength(validate_every=0),
        lambda: TrainingLength(ema_decay=1.0),
        lambda: OptimiserSettings(learning_rate=0.0),
        lambda: OptimiserSettings(warmup_fraction=1.5),
    ],
)
def test_impossible_settings_are_an_input_error(settings):
    with pytest.raises(InputError):
        settings()


def test_a_finished_model_in_the_output_is_not_written_over(data, tmp_path):
    one = {"length": replace(TWO_EPOCHS, epochs=1)}
    model = train(data, tmp_path / "first", **one)
    shutil.copytree(model, tmp_path / "second" / "unet3d")
    before = {path: path.read_bytes() for path in (tmp_path / "second").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="second holds a model, unet3d, and no checkpoint to resume from"):
        train(data, tmp_path / "second", start_from=tmp_path / "second" / "unet3d", **one)
    assert {path: path.read_bytes() for path in (tmp_path / "second").rglob("*") if path.is_file()} == before


def test_a_folder_is_trained_into_by_one_process_and_a_call_in_vain_takes_nothing_from_it(data, tmp_path):
    kept = tmp_path / "out" / unet.STREAM_FOLDER / "3"
    kept.mkdir(parents=True)
    with pytest.raises(InputError, match="does not exist"):
        train(tmp_path / "nowhere", tmp_path / "out")
    assert kept.is_dir()
    volumes = tmp_path / "out" / unet.VOLUMES_FOLDER
    volumes.mkdir()
    with sole_folder(tmp_path / "out"), pytest.raises(InputError, match="out: is being written by another process"):
        train(data, tmp_path / "out")
    assert volumes.is_dir()


def test_what_is_looked_at_and_what_it_began_with_belong_to_a_training(data, tmp_path):
    other = write_runs(tmp_path / "other", ["d", "e"], seed=5)
    one = {"length": replace(TWO_EPOCHS, epochs=1)}
    models = [train(data, tmp_path / name, seed=seed, **one) for seed, name in enumerate(("one", "two"))]
    given = {"validation_directories": [write_runs(tmp_path / "looked-at", ["f"], seed=6)], "start_from": models[0]}
    train(other, tmp_path / "out", **one | given)
    train(other, tmp_path / "out", resume=True, **one | given)
    with pytest.raises(InputError, match="but validation_runs changed"):
        train(other, tmp_path / "out", resume=True, **one | given | {"validation_directories": [data]})
    refitted = load_unet(models[0])
    save_unet(models[0], replace(refitted, provenance={**refitted.provenance, "thresholds_fitted_on": {"runs": ["x"]}}))
    train(other, tmp_path / "out", resume=True, **one | given)
    with pytest.raises(InputError, match="and it began with other weights"):
        train(other, tmp_path / "out", resume=True, **one | given | {"start_from": models[1]})


def test_a_model_that_came_after_the_last_checkpoint_is_made_up_for(data, tmp_path, monkeypatch):
    length = replace(FOUR_EPOCHS, validate_every=3)
    monkeypatch.setattr(keep_within_time, "fitting_epochs", lambda done, *args, **options: 4 if done == 1 else done)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.SaveModel, "on_train_end", lambda *args: exit_at_once())
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "out", length=length, seed=4, time_limit_seconds=100.0)
    assert load_unet(tmp_path / "out" / "unet3d").provenance["epochs"] == 1
    first = weights_of(tmp_path / "out" / "unet3d")
    train(data, tmp_path / "out", length=length, seed=4, resume=True)
    model = load_unet(tmp_path / "out" / "unet3d")
    assert model.provenance["epochs"] == 2
    content = torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    for name, value in weights_of(tmp_path / "out" / "unet3d").items():
        saved = content[f"network.{name}"].numpy()
        np.testing.assert_allclose(value, saved, rtol=1e-3, atol=1e-6, err_msg=name)  # stored as halves
    assert any((first[name] != value.numpy()).any() for name, value in model.network.state_dict().items())


def exit_at_once():
    raise KeyboardInterrupt


def test_a_model_that_was_being_replaced_when_its_writer_was_killed_is_taken_back(data, tmp_path):
    one = {"length": replace(TWO_EPOCHS, epochs=1)}
    model = train(data, tmp_path, **one)
    weights = weights_of(model)
    shutil.copytree(model, tmp_path / ".unet3d.abcdefgh")
    model.rename(tmp_path / ".unet3d.abcdefgh.previous")
    train(data, tmp_path, resume=True, **one)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "log", "unet3d"}
    for name, value in weights_of(model).items():
        np.testing.assert_array_equal(value, weights[name])


def test_types_that_are_not_labelled_are_told(data, tmp_path, caplog):
    train(data, tmp_path, length=replace(TWO_EPOCHS, epochs=1))
    assert "no picks of beta-amylase, beta-galactosidase, thyroglobulin in any tomogram" in caplog.text


def test_a_scheduler_of_a_cluster_does_not_begin_the_processes_of_a_training(data, tmp_path, monkeypatch):
    for name, value in (("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0"), ("SLURM_NODEID", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    assert train(data, tmp_path, length=replace(TWO_EPOCHS, epochs=1)).is_dir()

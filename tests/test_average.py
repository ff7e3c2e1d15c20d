"""Averages of weights, against NumPy's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import UNetModel, load_unet, save_unet
from kaggle_cryoet.models.unet3d import UNetSettings, build_unet
from kaggle_cryoet.training.average import _Blend, average_models

SETTINGS = UNetSettings(channels=(4, 6))


def save(folder: Path, seed: int, settings: UNetSettings = SETTINGS) -> Path:
    torch.manual_seed(seed)
    thresholds = tuple(0.1 * seed + 0.01 * label for label in range(6))
    model = UNetModel(network=build_unet(settings), settings=settings, thresholds=thresholds, provenance={"seed": seed})
    save_unet(folder, model)
    return folder


def test_the_average_of_models_has_the_mean_of_their_weights_and_thresholds(tmp_path: Path) -> None:
    folders = [save(tmp_path / str(seed), seed) for seed in (1, 2, 6)]
    average = load_unet(average_models(folders, tmp_path / "average"))
    states = [load_unet(folder).network.state_dict() for folder in folders]
    for name, value in average.network.state_dict().items():
        mean = np.mean([state[name].numpy() for state in states], axis=0)
        np.testing.assert_allclose(value.numpy(), mean, rtol=1e-3, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(average.thresholds, 0.3 + 0.01 * np.arange(6))
    assert average.calibration is None
    assert average.provenance == {"average_of": [{"seed": 1}, {"seed": 2}, {"seed": 6}]}
    assert average.settings == SETTINGS


def test_an_ancestor_is_told_of_once(tmp_path: Path) -> None:
    first = {"seed": 0, "commit": "a", "started_from": {"seed": 7}}
    mean = {"average_of": [{"seed": 3, "started_from": first}, first]}
    starts = (first, first, mean, None)
    for number, start in enumerate(starts):
        model = load_unet(save(tmp_path / str(number), number))
        save_unet(tmp_path / str(number), replace(model, provenance={"seed": 10 + number, "started_from": start}))
    parts = load_unet(average_models([tmp_path / str(n) for n in range(4)], tmp_path / "mean")).provenance["average_of"]
    above = {"seed": 0, "commit": "a", "told": "above"}
    shorter = {"average_of": [{"seed": 3, "started_from": above}, above]}
    assert [part["started_from"] for part in parts] == [first, above, shorter, None]
    again = load_unet(average_models([tmp_path / "mean", tmp_path / "0"], tmp_path / "again")).provenance["average_of"]
    assert again == [{"average_of": parts}, {"seed": 10, "told": "above"}]


def test_models_of_different_networks_or_one_alone_have_no_average(tmp_path: Path) -> None:
    one = save(tmp_path / "one", 1)
    with pytest.raises(InputError, match="two models or more"):
        average_models([one], tmp_path / "average")
    for other in (replace(SETTINGS, channels=(4, 8)), replace(SETTINGS, localise="centroids")):
        save(tmp_path / "other", 2, other)
        with pytest.raises(InputError, match="expected one network"):
            average_models([one, tmp_path / "other"], tmp_path / "average")
    assert not (tmp_path / "average").exists()


def test_a_running_average_forgets_its_first_steps_sooner_than_its_decay_says() -> None:
    network = torch.nn.BatchNorm1d(1)
    averaged = AveragedModel(network, multi_avg_fn=_Blend(0.9), use_buffers=True)
    expected, decays = 0.0, []
    for step in range(100):
        with torch.no_grad():
            network.weight.fill_(float(step))
        network.num_batches_tracked.fill_(step)
        averaged.update_parameters(network)
        decays.append(0.0 if step == 0 else min(0.9, (1 + step) / (10 + step)))
        expected = decays[-1] * expected + (1 - decays[-1]) * step
    assert decays[1] < 0.2
    assert decays[-1] == 0.9
    assert float(averaged.module.weight.detach()) == pytest.approx(expected, rel=1e-5)
    assert int(averaged.module.num_batches_tracked) == 99

"""Denoising by a network: in the simulator, and the training of that network."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch
from safetensors import safe_open

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.models import denoiser
from kaggle_cryoet.models.denoiser import Denoiser, denoised, depth_to_space, load_denoiser, save_denoiser
from kaggle_cryoet.models.unet3d import space_to_depth
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS
from kaggle_cryoet.simulation import reconstruction
from kaggle_cryoet.simulation.dataset import simulate, simulate_tomograms
from kaggle_cryoet.simulation.microscope import draw_tilt_series
from kaggle_cryoet.simulation.network_denoising import (
    SHIPPED_DENOISER,
    NetworkDenoising,
    draw_denoising,
    draw_network_denoising,
)
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES
from kaggle_cryoet.simulation.reconstruction import recorded_parts
from kaggle_cryoet.simulation.specimen import draw_specimen
from kaggle_cryoet.tomogram import read_tomogram
from kaggle_cryoet.training import denoiser as training
from kaggle_cryoet.training.denoiser import DenoiserTraining, train_denoiser

SHAPE = (48, 80, 104)
COUNTS = {"ribosome": 2, "apo-ferritin": 2}


def parts_of(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    nuisances = NUISANCE_RANGES["training"].draw_of_set(seed, 0)
    specimen = draw_specimen(nuisances, shape, rng)
    series = draw_tilt_series(nuisances, CZII_VOXEL_ANGSTROM, rng)
    return recorded_parts(specimen.density, series, nuisances, rng, draw_network_denoising(rng))


def radial_mean(power: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """What each coefficient of a half spectrum would be if its shell were even."""
    kz, ky, kx = np.fft.fftfreq(shape[0])[:, None, None], np.fft.fftfreq(shape[1])[:, None], np.fft.rfftfreq(shape[2])
    shell = np.round(np.sqrt(kz**2 + ky**2 + kx**2) * min(shape)).astype(int)
    return (np.bincount(shell.ravel(), power.ravel()) / np.bincount(shell.ravel()))[shell]


def test_blocks_become_channels_and_voxels_again() -> None:
    x = torch.rand(2, 1, 4, 6, 10)
    torch.testing.assert_close(depth_to_space(space_to_depth(x)), x)


def test_threads_change_no_bit_of_the_answer_and_strips_no_more_than_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = Denoiser()
    volume = np.random.default_rng(0).normal(size=(20, 210, 36)).astype(np.float32)
    threads = torch.get_num_threads()
    answer = denoised(network, volume)
    torch.set_num_threads(threads % 2 + 1)
    try:
        np.testing.assert_array_equal(denoised(network, volume), answer)
    finally:
        torch.set_num_threads(threads)
    assert answer.shape == volume.shape
    monkeypatch.setattr(denoiser, "STRIP_VOXELS", 1000)
    np.testing.assert_allclose(denoised(network, volume), answer, rtol=0, atol=1e-4 * answer.std())


def test_a_processor_without_bfloat16_answers_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    signal, noise = parts_of(64)
    recording = signal + noise
    recording = (recording - recording.mean()) / recording.std()
    network = load_denoiser(SHIPPED_DENOISER)
    answers = []
    for native in (True, False):
        monkeypatch.setattr(denoiser, "cpu_has_bfloat16", lambda native=native: native)
        answers.append(denoised(network, recording))
    difference = answers[0] - answers[1]
    assert 0 < difference.std() < 0.02 * answers[1].std()


@pytest.mark.parametrize("seed", [61, 62, 63])
def test_shipped_denoiser_comes_closer_to_the_signal_than_the_best_linear_filter(seed: int) -> None:
    signal, noise = parts_of(seed)
    noise = 3.5 * noise  # as in the noisiest half recordings of its training
    recording = signal + noise
    spread = recording.std()
    answer = denoised(load_denoiser(SHIPPED_DENOISER), (recording - recording.mean()) / spread) * spread
    powers = [radial_mean(np.abs(scipy.fft.rfftn(part)) ** 2, signal.shape) for part in (signal, noise)]
    wiener = powers[0] / (powers[0] + powers[1])  # knows the spectra of this very signal and noise
    filtered = scipy.fft.irfftn(scipy.fft.rfftn(recording) * wiener, s=signal.shape)
    centred = signal - signal.mean()
    lacking = np.mean((answer - answer.mean() - centred) ** 2)
    assert lacking < np.mean((filtered - filtered.mean() - centred) ** 2)


def test_recorded_parts_are_those_that_the_network_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    nuisances = replace(NUISANCE_RANGES["training"].draw_of_set(5, 0), leakage=0.0)
    denoising = NetworkDenoising(
        recording_noise=2.0,
        deconvolution_strength=100.0,
        deconvolution_falloff_angstrom=30.0,
        noise_left=0.1,
        bright_suppression=1.0,
        dark_exponent=1.0,
    )
    density = draw_specimen(nuisances, SHAPE, np.random.default_rng(0), counts=COUNTS).density
    series = draw_tilt_series(nuisances, CZII_VOXEL_ANGSTROM, np.random.default_rng(1))
    signal, noise = recorded_parts(density, series, nuisances, np.random.default_rng(2), denoising)
    monkeypatch.setattr(reconstruction, "denoise_by_network", lambda recording, *_: recording)
    rng = np.random.default_rng(2)
    shown = reconstruction.reconstruct_types(density, series, nuisances, rng, ("denoised",), denoising)["denoised"]
    np.testing.assert_allclose(shown, signal + noise, atol=1e-4 * shown.std())
    nothing, same_noise = recorded_parts(0 * density, series, nuisances, np.random.default_rng(2), denoising)
    assert signal.std() > 0
    np.testing.assert_array_equal(nothing, 0)
    np.testing.assert_array_equal(same_noise, noise)


def test_a_network_denoises_one_type_alone_and_the_same_way_for_the_same_seed() -> None:
    drawn = draw_denoising("network", 7, 0)
    assert drawn == draw_denoising("network", 7, 0) != draw_denoising("network", 7, 1)
    types = ("denoised", "wbp", "isonetcorrected")
    both = [
        simulate_tomograms("a", seed=(7, 0), shape_zyx=SHAPE, counts=COUNTS, tomogram_types=types, denoising=way)
        for way in (None, drawn, drawn)
    ]
    (by_filters, picks, _), (by_network, same_picks, _), (again, _, _) = both
    np.testing.assert_array_equal(by_network["denoised"].data, again["denoised"].data)
    np.testing.assert_array_equal(picks.position_zyx_angstrom, same_picks.position_zyx_angstrom)
    for name in types:
        same = np.array_equal(by_filters[name].data, by_network[name].data)
        assert same == (name != "denoised")
    alike = np.corrcoef(by_filters["denoised"].data.ravel(), by_network["denoised"].data.ravel())[0, 1]
    assert 0.2 < alike < 0.99


def test_either_takes_turns_and_the_provenance_says_which(tmp_path: Path) -> None:
    names = simulate(tmp_path, runs=3, seed=8, shape_zyx=SHAPE, counts=COUNTS, denoiser="either")
    ways = [json.loads((tmp_path / "provenance" / f"{name}.json").read_text())["denoising"] for name in names]
    assert [way is None for way in ways] == [True, False, True]
    assert NetworkDenoising(**ways[1]) == draw_denoising("network", 8, 1)
    data = read_tomogram(
        tmp_path / "static" / "ExperimentRuns" / names[1] / "VoxelSpacing10.000" / "denoised.zarr"
    ).data
    expected = simulate_tomograms(
        names[1],
        seed=(8, 1),
        shape_zyx=SHAPE,
        nuisances=NUISANCE_RANGES["training"].draw_of_set(8, 1),
        counts=COUNTS,
        denoising=NetworkDenoising(**ways[1]),
    )[0]["denoised"]
    np.testing.assert_array_equal(data, expected.data)


def test_a_training_is_repeatable_and_says_what_it_was(tmp_path: Path) -> None:
    settings = DenoiserTraining(specimens=2, shape_zyx=(40, 48, 56), crop_voxels=32, steps=40, batch_size=1)
    first = train_denoiser(tmp_path / "a", settings=settings, seed=3, progress=False)
    second = train_denoiser(tmp_path / "b", settings=settings, seed=3, progress=False)
    weights = [load_denoiser(tmp_path / name).state_dict() for name in "ab"]
    assert first == second < 1  # of the signal's mean square some is explained
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    with safe_open(tmp_path / "a" / "weights.safetensors", "pt") as file:
        provenance = json.loads(file.metadata()["provenance"])
    assert provenance["seed"] == 3
    assert provenance["settings"]["steps"] == 40
    assert provenance["unexplained"] == pytest.approx(first, abs=1e-4)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_training_computes_in_bfloat16_where_the_cpu_has_it(
    native: bool, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[torch.dtype] = []

    def blocks_of(x: torch.Tensor) -> torch.Tensor:
        used.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype)
        return space_to_depth(x)

    monkeypatch.setattr(denoiser, "space_to_depth", blocks_of)
    monkeypatch.setattr(training, "cpu_has_bfloat16", lambda: native)
    settings = DenoiserTraining(specimens=1, shape_zyx=(40, 48, 56), crop_voxels=32, steps=1, batch_size=1)
    train_denoiser(tmp_path, settings=settings, progress=False)
    assert used == [dtype]


def test_shipped_weights_say_where_they_come_from() -> None:
    path = SHIPPED_DENOISER / "weights.safetensors"
    with safe_open(path, "pt") as file:
        provenance = json.loads(file.metadata()["provenance"])
    assert {"commit", "seed", "settings", "ranges", "unexplained"} <= set(provenance)
    assert path.stat().st_size < 2e6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "1 or more"),
        ({"noisier": 0.5}, "1 or more"),
        ({"crop_voxels": 20}, "multiples of 8"),
        ({"crop_voxels": 192}, "fit specimens"),
    ],
)
def test_impossible_trainings_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DenoiserTraining(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_an_impossible_seed_is_refused_before_anything_is_written(seed: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a seed is from 0"):
        train_denoiser(tmp_path / "out", seed=seed)
    assert not (tmp_path / "out").exists()


def test_broken_weights_have_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights\.safetensors is missing"):
        load_denoiser(tmp_path)
    save_denoiser(tmp_path, Denoiser(), {})
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_denoiser(tmp_path)
    with pytest.raises(InputError, match="the weights do not fit a denoiser"):
        load_denoiser(SHIPPED_WEIGHTS / "unet3d")
    with pytest.raises(InputError, match="cannot be written"):
        save_denoiser(path / "within", Denoiser(), {})
    assert sorted(tmp_path.iterdir()) == [path]


def test_an_unknown_denoiser_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown denoiser 'topaz'; expected one of filters, network, either"):
        simulate(tmp_path / "out", denoiser="topaz")
    assert not (tmp_path / "out").exists()


def test_a_denoiser_is_not_written_over_a_model_that_picks(small_model: Path) -> None:
    before = (small_model / "weights.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds a model that picks; choose another folder"):
        train_denoiser(small_model, progress=False)
    with pytest.raises(InputError, match="holds a model that picks"):
        save_denoiser(small_model, Denoiser(), {})
    assert (small_model / "weights.safetensors").read_bytes() == before

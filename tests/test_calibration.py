"""Figures by which simulated slices are held against real ones, and the command that makes the table."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from kaggle_cryoet.copick import write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.particles import PARTICLE_NAMES, label_of
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation import slice_statistics as statistics
from kaggle_cryoet.simulation.calibration import calibrate, figures_of_picks, most_alike, table
from kaggle_cryoet.simulation.calibration_pictures import grey, montage
from kaggle_cryoet.simulation.calibration_slices import SLICE_Z, read_real


def noise(shape: tuple[int, int] = (200, 170), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_spread_of_noise_is_its_standard_deviation_whatever_dark_it_holds() -> None:
    image = 3.0 * noise()
    assert statistics.spread(image) == pytest.approx(3.0, rel=0.02)
    image[:10, :10] -= 300.0
    assert statistics.spread(image) == pytest.approx(3.0, rel=0.02)
    scaled = statistics.in_spreads(image)
    assert np.median(scaled) == pytest.approx(0, abs=1e-12)
    assert statistics.spread(scaled) == pytest.approx(1.0)


def test_windowed_image_is_clipped_and_has_so_many_levels() -> None:
    shown = statistics.windowed(noise(), -2.0, 1.0, levels=16)
    assert (shown.min(), shown.max()) == (-2.0, 1.0)
    assert len(np.unique(shown)) == 16
    inside = np.abs(statistics.in_spreads(noise())) < 0.9
    assert np.abs(shown - statistics.in_spreads(noise()))[inside].max() <= 0.1 + 1e-9


def test_intensities_of_noise_are_those_of_the_normal_distribution() -> None:
    figures = statistics.intensities([noise((400, 500))])
    assert figures["standard deviation"] == pytest.approx(1.0, abs=0.01)
    assert figures["skew"] == pytest.approx(0.0, abs=0.03)
    assert figures["quantile 16 %"] == pytest.approx(-0.994, abs=0.02)
    assert figures["quantile 99 %"] == pytest.approx(2.326, abs=0.03)


def test_dark_spots_are_counted_by_size_per_area() -> None:
    image = np.zeros((100, 200))
    for row, (height, width) in enumerate([(1, 1), (1, 2), (2, 2), (3, 4), (5, 5), (9, 9)]):
        image[12 * row : 12 * row + height, 5 : 5 + width] = -5.0
    counts = list(statistics.dark_spots([image]).values())
    assert counts == [1.0, 0.5, 0.5, 0.5, 0.5]


def test_dark_dots_are_counted_by_depth_and_are_as_wide_as_they_were_drawn() -> None:
    rows, columns = np.indices((100, 100))
    image = np.zeros((100, 100))
    for y, depth in ((16, 3.0), (50, 4.0), (84, 6.0)):
        for x in (10, 30, 50, 70, 90):
            image -= depth * np.exp(-0.5 * (((rows - y) / 2.0) ** 2 + ((columns - x) / 1.0) ** 2))
    found = statistics.dark_dots([image])
    assert [found[f"dots of {depth}"] for depth in ("2.5 to 3.5", "3.5 to 5", "5 to 6.9")] == [5, 5, 5]
    for depth in ("2.5 to 3.5", "3.5 to 5", "5 to 6.9"):
        for lag in (1, 2, 3):
            assert found[f"left of {depth} at {lag} along y"] == pytest.approx(np.exp(-(lag**2) / 8), abs=1e-3)
            assert found[f"left of {depth} at {lag} along x"] == pytest.approx(np.exp(-(lag**2) / 2), abs=1e-3)


def test_a_dot_beside_a_darker_one_or_at_the_border_is_not_solitary() -> None:
    image = np.zeros((60, 60))
    image[20, 20], image[20, 24], image[45, 45], image[3, 45] = -4.0, -6.0, -4.5, -4.5
    found = statistics.dark_dots([image])
    assert found == pytest.approx({"dots of 2.5 to 3.5": 0, "dots of 3.5 to 5": 1 / 0.36, "dots of 5 to 6.9": 1 / 0.36})


def test_power_of_white_noise_is_flat_and_of_blurred_noise_falls_as_the_blur_says() -> None:
    white = statistics.radial_power([noise((256, 200))])
    assert max(map(abs, list(white.values())[2:])) < 0.6
    blurred = statistics.radial_power([gaussian_filter(noise((256, 200)), 1.0, mode="wrap")])
    drop = blurred["0.2 to 0.25"] - blurred["0.1 to 0.15"]
    power = [np.exp(-((2 * np.pi * f) ** 2)) for f in (0.226, 0.127)]
    assert drop == pytest.approx(10 * np.log10(power[0] / power[1]), abs=0.6)


def test_wedge_sees_the_angles_that_were_taken_out() -> None:
    kz, kx = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None]
    kept = np.degrees(np.arctan2(np.abs(kz), np.abs(kx))) < 45
    images = [np.fft.ifft2(np.fft.fft2(noise((128, 128), seed)) * kept).real for seed in range(3)]
    figures = statistics.wedge(images)
    assert abs(figures["10 to 20 degrees"]) < 1.0
    assert figures["60 to 75 degrees"] < -20
    assert figures["75 to 90 degrees"] < -20


def test_axial_power_tells_smoothing_along_one_axis() -> None:
    white = np.random.default_rng(4).standard_normal((40, 64, 64))
    blurred = gaussian_filter(white, (0.0, 0.8, 0.0), mode="wrap")
    before, after = ([statistics.axial_power(list(images), axis) for axis in (0, 1)] for images in (white, blurred))
    assert {"0.05 to 0.1", "0.3 to 0.4"} < set(before[0])
    np.testing.assert_allclose(list(before[0].values()), 0.0, atol=0.7)
    along, across = (
        (late["0.2 to 0.25"] - late["0.05 to 0.1"]) - (early["0.2 to 0.25"] - early["0.05 to 0.1"])
        for early, late in zip(before, after, strict=True)
    )
    transfer = np.exp(-((2 * np.pi * 0.8 * np.arange(32) / 64) ** 2))  # of the power
    assert along == pytest.approx(10 * np.log10(transfer[13:16].mean() / transfer[4:7].mean()), abs=0.3)
    assert across == pytest.approx(0.0, abs=0.3)


def test_autocorrelation_is_along_one_axis_and_leaves_particles_out() -> None:
    image = statistics.in_spreads(gaussian_filter1d(noise((300, 280)), 2.0, axis=0))
    expected = np.exp(-(3**2) / (4 * 2.0**2))
    along, across = (statistics.autocorrelation([image], axis, (3,))["lag 3"] for axis in (0, 1))
    assert along == pytest.approx(expected, abs=0.03)
    assert across == pytest.approx(0.0, abs=0.03)
    image[100:130, 100:130] = -20.0
    assert statistics.autocorrelation([image], 1, (3,))["lag 3"] == pytest.approx(0.0, abs=0.03)


def test_particle_is_measured_at_its_centre() -> None:
    image = np.zeros((60, 70))
    rows, columns = np.indices(image.shape)
    image[np.hypot(rows - 20, columns - 40) < 8] = -3.0
    figures = statistics.particle_figures(image, np.array([20.0, 40.0]), 12.0)
    assert figures == {"contrast": -3.0, "roughness": 0.0, "darkest 5 %": -3.0}
    profile = statistics.radial_profile(image, np.array([20.0, 40.0]), 16.0)
    np.testing.assert_allclose(profile[:4], -3.0)
    np.testing.assert_allclose(profile[4:], 0.0)
    assert np.isnan(statistics.radial_profile(image, np.array([200.0, 40.0]), 8.0)).all()


def test_projections_are_stretched_before_they_are_measured() -> None:
    crop = np.ones((30, 30))
    rows, columns = np.indices(crop.shape)
    crop[np.hypot(rows - 14.5, columns - 14.5) < 4] = 0.0
    figures = statistics.projection_figures([crop, 5.0 + 30 * crop])
    assert figures["mean at 0 to 2 voxels"] == 0.0
    assert figures["mean at 10 to 12 voxels"] == 1.0
    assert figures["median"] == 1.0


def test_picks_are_counted_and_their_neighbours_measured() -> None:
    position = np.array([[100.0, 0, 0], [100, 0, 120], [300, 0, 0], [300, 900, 0], [300, 900, 5000]])
    label = [label_of(name) for name in ("apo-ferritin", "apo-ferritin", "apo-ferritin", "ribosome", "ribosome")]
    figures = figures_of_picks(Picks(position_zyx_angstrom=position, label=np.array(label)))
    assert figures["picks: number per tomogram"]["ribosome"] == 2
    assert figures["picks: median distance to the next of the kind, Å"]["apo-ferritin"] == 120
    assert figures["picks: share in contact with one of the kind"]["apo-ferritin"] == pytest.approx(2 / 3)
    assert figures["picks: height z, voxels"]["quantile 50 %"] == pytest.approx(300 / CZII_VOXEL_ANGSTROM)


def test_tomograms_without_picks_have_no_heights_and_are_counted() -> None:
    nothing = Picks(position_zyx_angstrom=np.empty((0, 3)), label=np.empty(0, dtype=np.int64))
    figures = figures_of_picks(nothing)
    assert figures["picks: height z, voxels"] == {}
    assert set(figures["picks: number per tomogram"].values()) == {0}


def test_table_says_which_figures_are_bracketed() -> None:
    real = {"section": {"a": 1.0, "b": 5.0, "c": 0.0}}
    text = table(real, [{"section": {"a": 0.0, "b": 1.0}}, {"section": {"a": 2.0, "b": 3.0}}])
    assert text.startswith("1 of 3 real figures lie within the simulated ones.")
    assert "| a | 1 | 0 to 2 | 1 | yes |" in text
    assert "| b | 5 | 1 to 3 | 2 | **no** |" in text
    assert "| c | 0 | none | | **no** |" in text


def test_pictures_are_put_together_in_rows() -> None:
    sheet = montage([[np.zeros((3, 5), np.uint8)] * 2, [np.zeros((3, 5), np.uint8)]])
    assert sheet.shape == (10, 14)
    assert (sheet == 0).sum() == 45
    assert grey(np.array([[-9.0, 9.0, np.nan]]), (-1, 1)).tolist() == [[0, 255, 255]]


@pytest.fixture
def real_directory(tmp_path: Path) -> Path:
    """Made-up slices and picks in the form of the real ones."""
    rng = np.random.default_rng(1)
    real = tmp_path / "data" / "real"
    real.mkdir(parents=True)
    slices = {f"{plane}_{number}": rng.normal(size=(32, 32)) for plane in ("xy", "xz", "yz") for number in range(3)}
    np.savez(real / "TS_100_3_denoised_crop128_9slices.npz", **slices)
    np.savez(real / "ribosome_minproj_crops_30x30_8bit.npz", crops=rng.integers(0, 256, (4, 30, 30), dtype=np.uint8))
    field = rng.normal(100, 30, (90, 110)).clip(0, 255).astype(np.uint8)
    Image.fromarray(field).save(real / "TS_5_4_z98_inverted8bit.png")
    position = np.array([[SLICE_Z + 2.0, 40.0, 50.0 + label] for label in range(6)] * 2) * CZII_VOXEL_ANGSTROM
    picks = Picks(position_zyx_angstrom=position, label=np.tile(np.arange(6), 2))
    write_copick(tmp_path / "data" / "picks" / "overlay" / "ExperimentRuns" / "TS_5_4" / "Picks", picks, "TS_5_4")
    return tmp_path / "data"


def test_real_slice_is_turned_dark_and_its_particles_are_found(real_directory: Path) -> None:
    (real_directory / "picks" / "overlay" / "ExperimentRuns" / ".DS_Store").touch()
    real, picks = read_real(real_directory)
    stored = np.asarray(Image.open(real_directory / "real" / "TS_5_4_z98_inverted8bit.png"), dtype=float)
    assert np.corrcoef(real.field.ravel(), stored.ravel())[0, 1] == pytest.approx(-1.0)
    assert [len(real.seen[label]) for label in range(6)] == [2] * 6
    np.testing.assert_allclose(real.seen[3][0][1], [40.0, 53.0], atol=1e-4)
    assert list(picks) == ["TS_5_4"]


def test_calibration_writes_the_table_and_the_pictures(real_directory: Path, tmp_path: Path) -> None:
    written = calibrate(real_directory, output=tmp_path / "out", tomograms=2, shape_zyx=(48, 100, 110))
    assert all(path.stat().st_size for path in written)
    names = {path.name for path in written}
    assert {"calibration.md", "real_and_simulated_field.png", "simulated_particles.png", "simulated_xz.png"} <= names
    text = (tmp_path / "out" / "calibration.md").read_text(encoding="utf8")
    assert "figures lie within the simulated ones" in text
    for name in PARTICLE_NAMES:
        assert f"### {name}" in text
    assert np.asarray(Image.open(tmp_path / "out" / "simulated_field.png")).shape == (100, 110)


def test_the_most_similar_tomogram_is_near_in_most_figures_and_not_in_one_alone() -> None:
    real = {"a": {"x": 1.0, "y": 2.0, "z": 0.5}, "b": {"w": 3.0}}
    near = {"a": {"x": 1.1, "y": 2.1, "z": 0.6}, "b": {"w": 9.0}}
    far = {"a": {"x": 9.0, "y": 1.0, "z": 0.9}, "b": {"w": 3.0}}
    few = {"a": {"x": 5.0}}
    assert most_alike(real, [far, near, few]) == 1
    assert most_alike(real, [far, real, near]) == 1
    assert most_alike(real, [near]) == 0


def test_picks_of_other_tomograms_alone_are_refused(real_directory: Path) -> None:
    runs = real_directory / "picks" / "overlay" / "ExperimentRuns"
    (runs / "TS_5_4").rename(runs / "TS_6_4")
    with pytest.raises(InputError, match="expected picks/overlay/ExperimentRuns/TS_5_4 in it"):
        read_real(real_directory)


@pytest.mark.parametrize("name", ["TS_5_4_z98_inverted8bit.png", "TS_100_3_denoised_crop128_9slices.npz"])
def test_broken_real_slices_are_refused(real_directory: Path, name: str) -> None:
    content = (real_directory / "real" / name).read_bytes()
    (real_directory / "real" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="its slices and picks cannot be read"):
        read_real(real_directory)


def test_missing_real_data_and_bad_requests_are_refused(real_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected real/TS_100_3_denoised_crop128_9slices\.npz in it"):
        calibrate(tmp_path, output=tmp_path / "out")
    with pytest.raises(InputError, match="the seed must not be negative, got -1"):
        calibrate(real_directory, output=tmp_path / "out", seed=-1)
    with pytest.raises(InputError, match="got 0 tomograms"):
        calibrate(real_directory, output=tmp_path / "out", tomograms=0)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]

"""Bead models: what ships, how they are laid into a volume, how they are fitted."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.simulation import splat
from kaggle_cryoet.simulation.bead_fit import bead_count, fit_bead_model_from_map, fit_beads, heavier_body
from kaggle_cryoet.simulation.bead_sources import BEAD_SOURCES, fit_all
from kaggle_cryoet.simulation.beads import (
    BeadModel,
    bead_model_names,
    centred,
    load_bead_model,
    read_bead_model,
    render,
    write_bead_model,
)
from kaggle_cryoet.simulation.density_map import read_map
from kaggle_cryoet.simulation.splat import splat_beads, splat_many

SHAPE = (19, 24, 31)
SOURCE_OF = {source.name: source for source in BEAD_SOURCES}


def some_beads(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions all over and somewhat beyond `SHAPE`, masses, sigmas."""
    rng = np.random.default_rng(seed)
    position = rng.uniform(-3, np.array(SHAPE) + 3, size=(count, 3))
    return position, rng.uniform(0.5, 8.0, count), rng.uniform(0.1, 1.3, count)


def voxel_shares(position: np.ndarray, sigma: np.ndarray, length: int) -> np.ndarray:
    """`(n, length)` part of 1D Gaussians in each voxel, without a cut."""
    border = np.arange(length + 1) - 0.5
    return np.diff(ndtr((border - position[:, None]) / np.broadcast_to(sigma, len(position))[:, None]), axis=1)


def exact_volume(position: np.ndarray, mass: np.ndarray, sigma: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    shares = [voxel_shares(position[:, axis], sigma, length) for axis, length in enumerate(shape)]
    return np.einsum("n,nz,ny,nx->zyx", mass, *shares, optimize=True)


def synthetic_model(seed: int = 1) -> BeadModel:
    rng = np.random.default_rng(seed)
    position, mass = rng.uniform(-1, 1, size=(30, 3)) * [60, 40, 25], rng.uniform(1, 6, 30)
    return BeadModel(
        name="synthetic",
        position_zyx_angstrom=centred(position, mass),
        mass=mass,
        sigma_angstrom=9.0,
        source="drawn",
        correlation=1.0,
    )


def write_mrc(path: Path, density: np.ndarray, voxel: object = 10.0) -> Path:
    import mrcfile

    with mrcfile.new(path) as file:
        file.set_data(density.astype(np.float32))
        file.voxel_size = voxel
    return path


def test_every_source_ships_a_model_and_the_six_particles_are_among_them() -> None:
    assert set(bead_model_names()) == {source.name for source in BEAD_SOURCES}
    assert set(PARTICLE_NAMES) <= set(bead_model_names())
    assert len({source.pdb for source in BEAD_SOURCES}) == len(BEAD_SOURCES)


@pytest.mark.parametrize("name", bead_model_names())
def test_a_shipped_model_is_centred_weighs_what_its_molecule_weighs_and_fits_its_map(name: str) -> None:
    model = load_bead_model(name)
    np.testing.assert_allclose(model.mass @ model.position_zyx_angstrom, 0, atol=1e-6)
    assert model.mass.sum() == pytest.approx(SOURCE_OF[name].mass_kilodalton, rel=1e-4)
    assert model.correlation >= 0.97
    assert model.name == name
    assert model.source == SOURCE_OF[name].source
    assert len(model.mass) <= 400
    assert 7 < model.sigma_angstrom < 12
    assert not model.mass.flags.writeable


def test_shipped_particles_have_the_size_of_their_molecules() -> None:
    spread = {}
    for name in PARTICLE_NAMES:
        model = load_bead_model(name)
        spread[name] = np.sqrt(model.mass @ np.sum(model.position_zyx_angstrom**2, axis=1) / model.mass.sum())
    assert spread["apo-ferritin"] == pytest.approx(52, abs=4)  # a shell of 80 to 120 Å in diameter
    assert spread["virus-like-particle"] == pytest.approx(130, abs=8)  # a shell of 30 nm in diameter
    assert spread["ribosome"] == pytest.approx(90, abs=10)  # radius of gyration of 80S ribosomes
    assert min(spread, key=spread.__getitem__) == "beta-amylase"


def test_the_shipped_tables_stay_small() -> None:
    directory = Path(splat.__file__).parent / "bead_models"
    assert sum(file.stat().st_size for file in directory.iterdir()) < 400_000


def test_splatted_beads_equal_exact_gaussians_up_to_the_cut() -> None:
    position, mass, sigma = some_beads(60)
    volume = np.zeros(SHAPE, dtype=np.float32)
    splat_beads(volume, position, mass, sigma)
    exact = exact_volume(position, mass, sigma, SHAPE)
    np.testing.assert_allclose(volume, exact, atol=2e-3 * exact.max())


def test_splatted_beads_equal_a_loop_in_double_precision() -> None:
    position, mass, sigma = some_beads(25, seed=3)
    volume = np.full(SHAPE, 0.25, dtype=np.float32)
    splat_beads(volume, position, mass, sigma)
    expected = np.full(SHAPE, 0.25)
    padding = 12
    for centre, bead_mass, bead_sigma in zip(position, mass, sigma, strict=True):
        axes = []
        for axis, length in enumerate(SHAPE):
            share = voxel_shares(centre[axis : axis + 1] + padding, bead_sigma, length + 2 * padding)[0]
            first = np.floor(centre[axis] - 3.5 * bead_sigma + 0.5) + padding
            last = np.ceil(centre[axis] + 3.5 * bead_sigma - 0.5) + padding
            share[(np.arange(len(share)) < first) | (np.arange(len(share)) > last)] = 0
            axes.append((share / share.sum())[padding:-padding])
        expected += bead_mass * np.einsum("z,y,x->zyx", *axes)
    np.testing.assert_allclose(volume, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.6, 1.7])
def test_a_bead_within_the_volume_keeps_its_mass_and_its_centre(sigma: float) -> None:
    volume = np.zeros(SHAPE, dtype=np.float32)
    splat_beads(volume, np.array([[9.0, 12.5, 14.3]]), np.array([7.0]), sigma)
    assert volume.sum(dtype=np.float64) == pytest.approx(7.0, rel=1e-6)
    centre = [np.sum(index * volume) / volume.sum(dtype=np.float64) for index in np.indices(SHAPE)]
    np.testing.assert_allclose(centre[:2], [9.0, 12.5], atol=1e-5)
    assert centre[2] == pytest.approx(14.3, abs=0.31 if sigma < 0.2 else 0.1 if sigma < 0.5 else 1e-2)


@pytest.mark.parametrize("threads", [1, 2])
def test_splat_many_equals_splat_beads_to_the_last_bit_for_any_number_of_threads(threads: int) -> None:
    import numba

    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"numba may use only {numba.config.NUMBA_NUM_THREADS} thread here")
    position, mass, sigma = some_beads(800, seed=5)
    one_by_one = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    by_slab = one_by_one.copy()
    splat_beads(one_by_one, position, mass, sigma)
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        splat_many(by_slab, position, mass, sigma)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(by_slab, one_by_one)


@pytest.mark.parametrize("lay", [splat_beads, splat_many])
def test_no_beads_or_beads_far_away_leave_the_volume_as_it_was(lay: Callable[..., None]) -> None:
    volume = np.full(SHAPE, 3.0, dtype=np.float32)
    lay(volume, np.zeros((0, 3)), np.zeros(0), 0.6)
    lay(volume, np.array([[-9.0, 5, 5], [40, 5, 5], [5, 5, -9], [5, 50, 5]]), np.ones(4), 0.6)
    np.testing.assert_array_equal(volume, np.float32(3.0))


@pytest.mark.parametrize(
    ("volume", "position", "mass", "sigma"),
    [
        (np.zeros(SHAPE), np.zeros((2, 3)), np.ones(2), 1.0),
        (np.zeros(SHAPE, np.float32).T, np.zeros((2, 3)), np.ones(2), 1.0),
        (np.zeros(SHAPE, np.float32), np.zeros((2, 3)), np.ones(3), 1.0),
        (np.zeros(SHAPE, np.float32), np.full((2, 3), np.nan), np.ones(2), 1.0),
        (np.zeros(SHAPE, np.float32), np.zeros((2, 3)), np.ones(2), 0.0),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    volume: np.ndarray, position: np.ndarray, mass: np.ndarray, sigma: float
) -> None:
    with pytest.raises(ValueError, match="expected"):
        splat_beads(volume, position, mass, sigma)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_projection_of_a_model_is_the_sum_of_its_2d_gaussians(axis: int) -> None:
    model = load_bead_model("thyroglobulin")
    shape, centre = (37, 38, 39), np.array([18.2, 18.6, 19.1])
    projection = render(model, np.eye(3), shape, 10.0, centre).sum(axis=axis)
    a, b = (other for other in range(3) if other != axis)
    position = centre + model.position_zyx_angstrom / 10.0
    sigma = np.full(len(model.mass), model.sigma_angstrom / 10.0)
    expected = np.einsum(
        "n,na,nb->ab",
        model.mass,
        voxel_shares(position[:, a], sigma, shape[a]),
        voxel_shares(position[:, b], sigma, shape[b]),
    )
    np.testing.assert_allclose(projection, expected, atol=2e-3 * expected.max())


def test_a_quarter_turn_about_z_turns_the_rendered_model() -> None:
    model = synthetic_model()
    quarter = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # acts on zyx columns: y to x, x to -y
    upright = render(model, np.eye(3), (33, 21, 21), 10.0, (16, 10, 10))
    turned = render(model, quarter, (33, 21, 21), 10.0, (16, 10, 10))
    np.testing.assert_allclose(turned, np.rot90(upright, axes=(1, 2)), atol=1e-5)
    assert np.abs(turned - upright).max() > 0.1


def test_a_table_survives_writing_and_reading(tmp_path: Path) -> None:
    model = synthetic_model()
    write_bead_model(tmp_path / "synthetic.csv", model)
    again = read_bead_model(tmp_path / "synthetic.csv")
    np.testing.assert_allclose(again.position_zyx_angstrom, model.position_zyx_angstrom, atol=2e-3)
    np.testing.assert_allclose(again.mass, model.mass, rtol=1e-4)
    assert (again.name, again.source, again.sigma_angstrom) == ("synthetic", "drawn", 9.0)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "z_angstrom,y_angstrom,x_angstrom,mass_kilodalton\n1,2,3,4\n"])
def test_a_file_that_is_no_table_of_beads_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.csv").write_text(text)
    with pytest.raises(InputError, match=r"broken\.csv"):
        read_bead_model(tmp_path / "broken.csv")


def test_a_missing_table_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_bead_model(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="expected one of apo-ferritin"):
        load_bead_model("unicorn")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"position_zyx_angstrom": np.ones((2, 3))}, "off the origin"),
        ({"position_zyx_angstrom": np.zeros((3, 3))}, "of at least one bead"),
        ({"mass": np.array([1.0, -1.0])}, "above 0"),
        ({"sigma_angstrom": 0.0}, "sigma above 0"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused(change: dict[str, object], complaint: str) -> None:
    good: dict[str, object] = {
        "name": "pair",
        "position_zyx_angstrom": np.array([[-1.0, 0, 0], [1.0, 0, 0]]),
        "mass": np.ones(2),
        "sigma_angstrom": 8.0,
        "source": "drawn",
        "correlation": 1.0,
    }
    BeadModel(**good)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=complaint):
        BeadModel(**(good | change))  # type: ignore[arg-type]


def test_a_fit_recovers_a_map_of_known_beads_in_spite_of_noise_specks_and_scale() -> None:
    model = synthetic_model()
    shape = (34, 26, 22)
    centre = np.array([16.0, 13.2, 10.6])
    clean = render(model, np.eye(3), shape, 10.0, centre)
    spoilt = 7.0 * clean - 0.01 * clean.max()
    spoilt[2, 2, 2] = clean.max()  # a hot voxel
    fitted = fit_beads(spoilt, 10.0, beads=30, seed=0, mass_kilodalton=100.0)
    assert fitted.mass.sum() == pytest.approx(100.0)
    assert fitted.correlation >= 0.99
    again = render(fitted, np.eye(3), shape, 10.0, centre)
    assert np.corrcoef(again.ravel(), clean.ravel())[0, 1] >= 0.99
    assert fitted.sigma_angstrom == pytest.approx(9.0, abs=1.0)


def test_a_fine_map_is_fitted_at_10_angstrom() -> None:
    model = synthetic_model()
    fine = render(model, np.eye(3), (81, 61, 53), 4.0, (40, 30, 26))
    fitted = fit_beads(fine, 4.0, beads=30, seed=0, mass_kilodalton=float(model.mass.sum()))
    coarse = render(model, np.eye(3), (33, 25, 21), 10.0, (16, 12, 10))
    again = render(fitted, np.eye(3), (33, 25, 21), 10.0, (16, 12, 10))
    assert np.corrcoef(again.ravel(), coarse.ravel())[0, 1] >= 0.99


def test_the_heavier_of_two_bodies_is_kept() -> None:
    position, mass = np.array([[5.0, 6, 6], [5, 6, 18]]), np.array([3.0, 4.0])
    density = exact_volume(position, mass, np.array([1.5, 1.5]), (11, 13, 25))
    body = heavier_body(density)
    assert body.sum() == pytest.approx(4.0, rel=1e-3)
    assert body[..., :10].max() == 0


def test_a_map_becomes_a_table_of_its_beads(tmp_path: Path) -> None:
    density = render(synthetic_model(), np.eye(3), (33, 25, 21), 10.0, (16, 12, 10))
    path = write_mrc(tmp_path / "map.mrc", density)
    model = fit_bead_model_from_map("toy", path, tmp_path / "new" / "out", mass_kilodalton=100.0, source="drawn")
    again = read_bead_model(tmp_path / "new" / "out" / "toy.csv")
    assert len(again.mass) == len(model.mass) <= bead_count(100.0) == 25
    assert again.mass.sum() == pytest.approx(100.0, rel=1e-4)
    assert again.correlation == pytest.approx(model.correlation, abs=1e-4)


@pytest.mark.parametrize("place", [(2, 2, 2), (0, 2, 2), (0, 0, 0)])
@pytest.mark.parametrize("spoil", ["level", "bright", "dark"])
def test_neither_the_level_of_a_map_nor_a_fault_in_it_changes_its_beads(
    spoil: str, place: tuple[int, int, int]
) -> None:
    clean = render(synthetic_model(), np.eye(3), (34, 26, 22), 10.0, (16.0, 13.2, 10.6))
    spoilt = clean + (3.0 * clean.max() if spoil == "level" else 0.0)
    if spoil != "level":
        spoilt[place] = (100.0 if spoil == "bright" else -100.0) * clean.max()
    expected, found = (fit_beads(density, 10.0, beads=30, seed=0) for density in (clean, spoilt))
    assert found.gyration_angstrom == pytest.approx(expected.gyration_angstrom, rel=0.01)
    assert found.correlation >= 0.99
    rendered = render(found, np.eye(3), clean.shape, 10.0, (16.0, 13.2, 10.6))
    assert np.corrcoef(rendered.ravel(), clean.ravel())[0, 1] >= 0.99


def test_the_radius_of_gyration_is_that_of_the_masses() -> None:
    position = np.array([[0.0, 0.0, -10.0], [0.0, 0.0, 20.0]])
    model = replace(synthetic_model(), position_zyx_angstrom=position, mass=np.array([2.0, 1.0]))
    assert model.gyration_angstrom == pytest.approx(np.sqrt((2 * 100 + 400) / 3))


@pytest.mark.parametrize(
    ("density", "voxel", "complaint"),
    [
        (-render(load_bead_model("apo-ferritin"), np.eye(3), (24, 24, 24), 10.0, (11.5,) * 3), 10.0, "is it inverted"),
        (np.zeros((8, 9, 10)), 10.0, "no density above"),
        (-np.ones((8, 9, 10)), 10.0, "no density above"),
        (np.full((8, 9, 10), np.nan), 10.0, "not finite"),
        (np.ones((8, 9, 10)), 0.0, "cubic voxel"),
        (np.ones((8, 9, 10)), 400.0, "cubic voxel"),
        (np.ones((8, 9, 10)), (10.0, 10.0, 7.0), "cubic voxel"),
        (np.ones((9, 10)), 10.0, "3 axes"),
    ],
)
def test_a_map_that_cannot_be_fitted_is_refused_by_name(
    tmp_path: Path, density: np.ndarray, voxel: object, complaint: str
) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mrcfile's own, on writing what is not finite
        path = write_mrc(tmp_path / "bad.mrc", density, voxel)
    with pytest.raises(InputError, match=rf"bad\.mrc.*{complaint}"):
        fit_bead_model_from_map("bad", path, tmp_path, mass_kilodalton=100.0, source="drawn", bodies=2)
    with pytest.raises(InputError, match=rf"bad\.mrc.*{complaint}"):
        fit_bead_model_from_map("bad", path, tmp_path, mass_kilodalton=100.0, source="drawn")
    assert not (tmp_path / "bad.csv").exists()


def test_a_file_that_is_no_map_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mrc").write_text("not a map at all " * 100)
    (tmp_path / "short.mrc").write_bytes(b"\0" * 10)
    for name in ("text.mrc", "short.mrc", "absent.mrc"):
        with pytest.raises(InputError, match="cannot be read as an MRC map"):
            read_map(tmp_path / name)


def test_a_map_with_an_old_stamp_is_read_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    density = np.random.default_rng(0).random((8, 9, 10)).astype(np.float32)
    path = write_mrc(tmp_path / "old.mrc", density)
    content = bytearray(path.read_bytes())
    content[212:216] = bytes(4)  # the machine stamp
    path.write_bytes(content)
    found, _ = read_map(path)
    np.testing.assert_array_equal(found, density)
    assert "old.mrc: is read in spite of what is unusual about it: Unrecognised machine stamp" in caplog.text


def test_a_map_with_axes_in_another_order_is_refused(tmp_path: Path) -> None:
    import mrcfile

    path = write_mrc(tmp_path / "turned.mrc", np.ones((8, 9, 10)))
    with mrcfile.open(path, mode="r+") as file:
        file.header.mapc, file.header.maps = 3, 1
    with pytest.raises(InputError, match=r"sections z \(1, 2, 3\), got \(3, 2, 1\)"):
        read_map(path)


def test_a_compressed_map_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    import gzip

    path = write_mrc(tmp_path / "whole.mrc", np.random.default_rng(0).random((8, 9, 10)))
    compressed = gzip.compress(path.read_bytes())
    (tmp_path / "whole.mrc.gz").write_bytes(compressed)
    np.testing.assert_array_equal(read_map(tmp_path / "whole.mrc.gz")[0], read_map(path)[0])
    (tmp_path / "cut.mrc.gz").write_bytes(compressed[: len(compressed) // 2])
    with pytest.raises(InputError, match=r"cut\.mrc\.gz: cannot be read as an MRC map"):
        read_map(tmp_path / "cut.mrc.gz")


def test_bytes_of_a_map_are_unsigned_where_its_header_says_so_and_axes_may_be_left_out(tmp_path: Path) -> None:
    import mrcfile

    values = np.arange(8 * 9 * 10).reshape(8, 9, 10) % 256
    with mrcfile.new(tmp_path / "bytes.mrc") as file:
        file.set_data(values.astype(np.uint8).view(np.int8))
        file.voxel_size = 10.0
        file.header.dmin, file.header.dmax = 0, 255
        file.header.mapc = file.header.mapr = file.header.maps = 0
    np.testing.assert_array_equal(read_map(tmp_path / "bytes.mrc")[0], values)


def test_a_map_of_complex_numbers_is_refused(tmp_path: Path) -> None:
    import mrcfile

    with mrcfile.new(tmp_path / "transform.mrc") as file:
        file.set_data(np.ones((8, 9, 10), dtype=np.complex64))
        file.voxel_size = 10.0
    with pytest.raises(InputError, match="expected a density, got complex numbers"):
        read_map(tmp_path / "transform.mrc")


@pytest.mark.parametrize(("beads", "mass"), [(0, 100.0), (10, 0.0), (10, float("nan"))])
def test_a_fit_of_nothing_is_refused(beads: int, mass: float) -> None:
    with pytest.raises(InputError, match="above 0"):
        fit_beads(np.ones((8, 9, 10)), 10.0, beads=beads, seed=0, mass_kilodalton=mass)


def test_three_bodies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 or 2 bodies, got 3"):
        fit_bead_model_from_map("toy", tmp_path / "map.mrc", tmp_path, mass_kilodalton=1.0, source="", bodies=3)


def test_all_missing_maps_are_named_before_any_fit(tmp_path: Path) -> None:
    (tmp_path / "6pxm.mrc").touch()
    with pytest.raises(InputError, match=r"missing 1fa2, 1f4a, .*3qm1"):
        fit_all(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", PARTICLE_NAMES)
def test_the_recorded_correlation_is_that_with_the_map(name: str) -> None:
    directory = os.environ.get("CRYOET_SHARED")
    if directory is None:
        pytest.skip("CRYOET_SHARED does not name a directory with the density maps in data/maps")
    density, voxel_angstrom = read_map(Path(directory) / "data" / "maps" / f"{SOURCE_OF[name].pdb}.mrc")
    centre = [np.sum(index * density, dtype=np.float64) / density.sum() for index in np.indices(density.shape)]
    model = load_bead_model(name)
    rendered = render(model, np.eye(3), (density.shape[0], density.shape[1], density.shape[2]), voxel_angstrom, centre)
    correlation = np.corrcoef(rendered.ravel(), density.ravel())[0, 1]
    assert correlation >= 0.97
    assert correlation == pytest.approx(model.correlation, abs=0.01)

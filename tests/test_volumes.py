"""Where labelled tomograms are found, with what weights, and how they are kept."""

import copy
import json
import pickle
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from kaggle_cryoet.copick import write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.spectrum import SHELLS
from kaggle_cryoet.picking.equalise import SHARE, equalise
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.tomogram import Tomogram, write_tomogram
from kaggle_cryoet.training.volumes import equalised_share, find_sources, load_labelled_volume, load_volumes

SHAPE = (12, 14, 18)


def write_run(root: Path, name: str, types: tuple[str, ...] = ("denoised",)) -> Path:
    rng = np.random.default_rng(sum(map(ord, name)))
    for tomogram_type in types:
        path = root / "static" / "ExperimentRuns" / name / "VoxelSpacing10.000" / f"{tomogram_type}.zarr"
        data = rng.normal(size=SHAPE).astype(np.float32)
        write_tomogram(path, Tomogram(data=data, voxel_angstrom=10.0, name=name), levels=1)
    picks = Picks(position_zyx_angstrom=np.array([[50.0, 60.0, 70.0]]), label=np.array([3]))
    write_copick(root / "overlay" / "ExperimentRuns" / name / "Picks", picks, name)
    return root


def test_folders_have_weights_and_further_reconstructions_a_share(tmp_path: Path) -> None:
    write_run(tmp_path / "real", "a", ("denoised", "wbp", "isonetcorrected"))
    write_run(tmp_path / "real", "b")
    write_run(tmp_path / "simulated", "c", ("denoised", "wbp"))
    sources = find_sources([f"{tmp_path}/real@5", tmp_path / "simulated"], ("denoised", "wbp@0.3"))
    found = [(source.run.name, source.run.tomogram_path.stem, source.weight) for source in sources]
    assert found == [
        ("a", "denoised", 5.0),
        ("a", "wbp", 1.5),
        ("b", "denoised", 5.0),
        ("c", "denoised", 1.0),
        ("c", "wbp", pytest.approx(0.3)),
    ]
    assert len({source.run.picks_directory for source in sources}) == 3
    with pytest.raises(
        InputError, match="no run has a tomogram of the type 'wpb'; there are denoised, isonetcorrected, wbp"
    ):
        find_sources([tmp_path / "real", tmp_path / "simulated"], ("denoised", "wbp", "wpb@0.3"))


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path: Path) -> None:
    write_run(tmp_path / "data@2", "a")
    assert [source.weight for source in find_sources([tmp_path / "data@2"])] == [1.0]
    assert [source.weight for source in find_sources([f"{tmp_path}/data@2@3"])] == [3.0]


@pytest.mark.parametrize("weight", ["0", "-1", "inf", "nan"])
def test_a_weight_that_is_not_positive_is_an_input_error(tmp_path: Path, weight: str) -> None:
    write_run(tmp_path, "a")
    with pytest.raises(InputError, match="positive weight"):
        find_sources([f"{tmp_path}@{weight}"])


@pytest.mark.parametrize("voxel_angstrom", [1.0, 250.0])
def test_a_tomogram_whose_picks_have_no_place_for_want_of_a_voxel_size_is_not_trained_on(
    tmp_path: Path, voxel_angstrom: float
) -> None:
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    path = tmp_path / "run" / "VoxelSpacing1.000" / "denoised.zarr"
    write_tomogram(path, Tomogram(data=data, voxel_angstrom=voxel_angstrom, name="run"), levels=1)
    picks = Picks(position_zyx_angstrom=np.array([[5.0, 6.0, 7.0]]), label=np.array([3]))
    write_copick(tmp_path / "run" / "Picks", picks, "run")
    [source] = find_sources([tmp_path])
    with pytest.raises(InputError, match=r"denoised\.zarr: has no voxel size that can be right"):
        load_labelled_volume(source.run)
    (path / ".zattrs").unlink()
    with pytest.raises(InputError, match=r"denoised\.zarr: has no voxel size that can be right"):
        load_labelled_volume(source.run)


def test_picks_in_the_last_voxel_of_a_tomogram_that_is_resampled_are_inside(tmp_path: Path) -> None:
    shape = (20, 200, 30)
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = tmp_path / "run" / "VoxelSpacing13.480" / "denoised.zarr"
    write_tomogram(path, Tomogram(data=data, voxel_angstrom=13.48, name="run"), levels=1)
    last = np.array([shape]) * 13.48 - 13.48  # centres of voxels
    for beyond, is_inside in ((0.0, True), (0.49 * 13.48, True), (45.0, False)):
        picks = Picks(position_zyx_angstrom=last + beyond, label=np.array([3]))
        write_copick(tmp_path / "run" / "Picks", picks, "run")
        with nullcontext() if is_inside else pytest.raises(InputError, match="1 of 1 picks lie outside"):
            assert load_labelled_volume(find_sources([tmp_path])[0].run).voxel_angstrom == pytest.approx(
                10.012, abs=1e-3
            )


def test_tomograms_beyond_the_memory_are_read_from_files_and_hold_the_same(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_run(tmp_path / "data", name)
    sources = find_sources([tmp_path / "data"])
    one_and_a_bit = 1.1 * 2 * np.prod(SHAPE) / 1e9
    volumes = load_volumes(sources, memory_gb=one_and_a_bit, folder=tmp_path / "volumes")
    assert [isinstance(volume.volume, np.memmap) for volume in volumes] == [False, False, True]
    for source, volume in zip(sources, volumes, strict=True):
        np.testing.assert_array_equal(volume.volume, load_labelled_volume(source.run).volume)
        assert volume.volume.dtype == np.float16
    with pytest.raises(InputError, match="must not be negative"):
        load_volumes(sources, memory_gb=-1, folder=tmp_path)


def test_shares_of_the_way_to_the_spectrum_cover_their_range_evenly() -> None:
    for first in (0, 3, 100):
        shares = np.array([equalised_share(number, 0.2) for number in range(first, first + 32)])
        assert shares.min() >= 0.2 * SHARE
        assert shares.max() < SHARE
        counts = np.histogram(shares / SHARE, bins=4, range=(0.2, 1))[0]
        assert counts.min() >= 7
    assert {equalised_share(number, 1.0) for number in range(5)} == {SHARE}


def test_tomograms_to_train_on_go_their_own_share_of_the_way_to_the_spectrum(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_run(tmp_path / "data", name)
    sources = find_sources([tmp_path / "data"])
    spectrum = tuple(np.linspace(2.0, 0.3, SHELLS).tolist())
    volumes = load_volumes(sources, spectrum=spectrum, least_equalised=0.3, memory_gb=1, folder=tmp_path)
    for number, (source, volume) in enumerate(zip(sources, volumes, strict=True)):
        own = load_labelled_volume(source.run).volume.astype(np.float32)
        expected = equalise(own, spectrum, share=equalised_share(number, 0.3))
        np.testing.assert_allclose(volume.volume.astype(np.float32), expected, atol=0.02)
        assert np.abs(equalise(own, spectrum) - expected).max() > 0.1


def test_a_mapped_volume_goes_to_another_process_as_the_place_of_its_file(tmp_path: Path) -> None:
    write_run(tmp_path / "data", "a")
    (volume,) = load_volumes(find_sources([tmp_path / "data"]), memory_gb=0, folder=tmp_path / "volumes")
    sent = pickle.dumps(volume)
    assert len(sent) < volume.volume.nbytes
    there = pickle.loads(sent)
    assert isinstance(there.volume, np.memmap)
    np.testing.assert_array_equal(there.volume, volume.volume)
    np.testing.assert_array_equal(there.picks.label, [3])
    assert copy.deepcopy(volume) is volume


def test_further_reconstructions_are_found_in_every_layout(tmp_path: Path) -> None:
    root = write_run(tmp_path / "ome", "a", ("denoised", "wbp"))
    spacing = root / "static" / "ExperimentRuns" / "a" / "VoxelSpacing10.000"
    for name in ("denoised", "wbp"):
        (spacing / f"{name}.zarr").rename(spacing / f"{name}.ome.zarr")
    beside = write_run(tmp_path / "mixed", "b")
    folder = beside / "static" / "ExperimentRuns" / "b" / "VoxelSpacing10.000"
    (folder / "wbp.mrc").touch()
    portal = write_run(tmp_path / "portal", "TS_1", ("denoised", "wbp"))
    spacing = portal / "static" / "ExperimentRuns" / "TS_1" / "VoxelSpacing10.000"
    for number, (name, processing) in enumerate(2 * (("denoised", "denoised"), ("wbp", "raw"))):
        place = spacing / "Tomograms" / str(100 + number)
        shutil.copytree(spacing / f"{name}.zarr", place / "TS_1.zarr")
        (place / "tomogram_metadata.json").write_text(json.dumps({"processing": processing}))
    for name in ("denoised", "wbp"):
        shutil.rmtree(spacing / f"{name}.zarr")
    for root, expected in (
        (tmp_path / "ome", ("denoised.ome.zarr", "wbp.ome.zarr")),
        (beside, ("denoised.zarr", "wbp.mrc")),
        (portal, ("100/TS_1.zarr", "101/TS_1.zarr")),
    ):
        sources = find_sources([root], ("denoised", "wbp@0.3"))
        assert [source.weight for source in sources] == [1.0, 0.3]
        assert all(str(source.run.tomogram_path).endswith(end) for source, end in zip(sources, expected, strict=True))
    with pytest.raises(
        InputError, match=r"no run has a tomogram of the type 'ctfdeconvolved'; there are denoised, wbp$"
    ):
        find_sources([portal], ("denoised", "ctfdeconvolved"))

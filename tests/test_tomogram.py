"""`Tomogram`, what is checked in every format, and writing whole or not at all."""

import logging
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from kaggle_cryoet import tomogram as tomogram_module
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.tomogram import RunLocation, Tomogram, read_tomogram, run_name, write_tomogram

Volume = NDArray[np.float32]


def save(path: Path, data: NDArray[np.generic]) -> Path:
    """A bare zarr array or an MRC file without a voxel size."""
    if path.suffix == ".mrc":
        with mrcfile.new(path) as mrc:
            mrc.set_data(data)
            mrc.set_volume()
    else:
        zarr.create_array(path, data=data, chunks=(8, 8, 8)[: data.ndim], config={"write_empty_chunks": True})
    return path


@pytest.fixture(params=["run.zarr", "run.mrc"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_a_written_tomogram_is_read_back_as_it_was(tmp_path: Path, volume: Volume) -> None:
    path = tmp_path / "ExperimentRuns" / "TS_1" / "VoxelSpacing10.000" / "denoised.zarr"
    write_tomogram(path, Tomogram(data=volume, voxel_angstrom=10.25, name="TS_1"))
    tomogram = read_tomogram(path)
    np.testing.assert_array_equal(tomogram.data, volume)
    assert tomogram.data.dtype == np.float32
    assert tomogram.data.flags.c_contiguous
    assert tomogram.voxel_angstrom == pytest.approx(10.25, rel=1e-12)
    assert tomogram.name == "TS_1"


def test_the_name_is_that_of_the_run_of_the_file_or_the_one_given(tmp_path: Path, volume: Volume) -> None:
    path = save(tmp_path / "denoised.zarr", volume)
    location = RunLocation(name="TS_9", tomogram_path=path, picks_directory=None)
    assert read_tomogram(path).name == "denoised"
    assert read_tomogram(location).name == "TS_9"
    assert read_tomogram(location, name="other").name == "other"
    assert run_name(Path("a/TS_5_4/VoxelSpacing10.000/denoised.zarr")) == "TS_5_4"
    assert run_name(Path("a/TS_5_4.ome.zarr")) == "TS_5_4"


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16"])
def test_integers_become_float32_with_a_note(
    path: Path, dtype: str, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    data = (np.abs(volume) * 20).astype(dtype)
    with caplog.at_level(logging.INFO):
        tomogram = read_tomogram(save(path, data))
    np.testing.assert_array_equal(tomogram.data, data.astype(np.float32))
    assert tomogram.data.dtype == np.float32
    assert f"type {dtype} are converted to float32" in caplog.text


def test_without_a_voxel_size_the_competitions_is_assumed_with_a_warning(
    path: Path, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_tomogram(save(path, volume)).voxel_angstrom == CZII_VOXEL_ANGSTROM
    assert f"{path}: gives no voxel size" in caplog.text


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # mrcfile's, of the statistics in the header it writes
def test_voxels_that_are_not_finite_are_counted(path: Path, volume: Volume) -> None:
    volume[1, 2, 3], volume[9, 13, 18] = np.nan, np.inf
    with pytest.raises(InputError, match="2 of 2660 voxels are NaN or infinite") as caught:
        read_tomogram(save(path, volume))
    assert str(path) in str(caught.value)


def test_numbers_beyond_float32_count_as_infinite(tmp_path: Path, volume: Volume) -> None:
    data = volume.astype(np.float64)
    data[0, 0, 0] = 1e300
    with pytest.raises(InputError, match="1 of 2660 voxels"):
        read_tomogram(save(tmp_path / "run.zarr", data))


def test_a_constant_volume_is_refused(path: Path, volume: Volume) -> None:
    with pytest.raises(InputError, match=r"all voxels have the value 2\.5") as caught:
        read_tomogram(save(path, np.full_like(volume, 2.5)))
    assert str(path) in str(caught.value)


def test_complex_numbers_are_refused(path: Path, volume: Volume) -> None:
    with pytest.raises(InputError, match="expected voxels that are real numbers, got complex64"):
        read_tomogram(save(path, volume.astype(np.complex64)))


def test_a_path_that_does_not_exist_or_is_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.zarr: does not exist"):
        read_tomogram(tmp_path / "absent.zarr")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"picture\.png: expected an OME-Zarr folder or an \.mrc or \.rec file"):
        read_tomogram(tmp_path / "picture.png")


def test_a_tomogram_has_three_axes_and_a_voxel_size(volume: Volume) -> None:
    with pytest.raises(InputError, match="axes z, y, x"):
        Tomogram(data=volume[0], voxel_angstrom=10.0, name="a")
    with pytest.raises(InputError, match="at least one voxel"):
        Tomogram(data=volume[:0], voxel_angstrom=10.0, name="a")
    for voxel_angstrom in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive and finite"):
            Tomogram(data=volume, voxel_angstrom=voxel_angstrom, name="a")


def test_an_existing_path_is_not_overwritten(tmp_path: Path, volume: Volume) -> None:
    tomogram = Tomogram(data=volume, voxel_angstrom=10.0, name="a")
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(InputError, match=r"a\.zarr: exists already"):
        write_tomogram(tmp_path / "a.zarr", tomogram)
    with pytest.raises(InputError, match="at least one level, got 0"):
        write_tomogram(tmp_path / "b.zarr", tomogram, levels=0)


def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(path: Path, *_: object) -> None:
        (path / "0").write_bytes(b"part")
        raise OSError("no space left")

    monkeypatch.setattr(tomogram_module, "write_ome_zarr", fill_the_disk)
    with pytest.raises(InputError, match=r"a\.zarr: cannot be written: no space left"):
        write_tomogram(tmp_path / "a.zarr", Tomogram(data=volume, voxel_angstrom=10.0, name="a"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, volume: Volume) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"a\.zarr: cannot be written"):
        write_tomogram(tmp_path / "file" / "a.zarr", Tomogram(data=volume, voxel_angstrom=10.0, name="a"))

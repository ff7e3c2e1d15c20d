"""MRC files, sound and broken."""

import gzip
import warnings
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from kaggle_cryoet import mrc as mrc_module
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.tomogram import read_tomogram

Volume = NDArray[np.float32]


def save(path: Path, data: NDArray[np.generic], voxel_zyx: tuple[float, float, float] = (10.0, 10.0, 10.0)) -> Path:
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = voxel_zyx[::-1]
    return path


def change_header(path: Path, **fields: int) -> None:
    with mrcfile.open(path, mode="r+") as mrc:
        for name, value in fields.items():
            mrc.header[name] = value


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float16", "float32"])
def test_every_mode_of_real_numbers_is_read_in_the_order_z_y_x(tmp_path: Path, volume: Volume, dtype: str) -> None:
    data = (np.abs(volume) * 20).astype(dtype)
    tomogram = read_tomogram(save(tmp_path / "TS_1.mrc", data))
    np.testing.assert_array_equal(tomogram.data, data.astype(np.float32))
    assert tomogram.name == "TS_1"


def test_the_voxel_size_is_that_of_the_header(tmp_path: Path, volume: Volume) -> None:
    tomogram = read_tomogram(save(tmp_path / "a.mrc", volume, (13.48, 13.48, 13.48)))
    assert tomogram.voxel_angstrom == pytest.approx(13.48, rel=1e-6)


def test_other_byte_order_and_an_extended_header_make_no_difference(tmp_path: Path, volume: Volume) -> None:
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(volume.astype(">f4"))
        mrc.set_extended_header(np.arange(77, dtype=np.uint8))
    np.testing.assert_array_equal(read_tomogram(path).data, volume)


def test_a_large_file_is_read_slab_by_slab(tmp_path: Path, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mrc_module, "_BLOCK_BYTES", 3 * volume[0].nbytes)
    np.testing.assert_array_equal(read_tomogram(save(tmp_path / "a.mrc", volume)).data, volume)


def test_voxels_that_are_not_cubes_are_used_with_a_warning(
    tmp_path: Path, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "a.mrc", volume, (10.0, 10.0, 13.0))
    assert read_tomogram(path).voxel_angstrom == pytest.approx(11, rel=1e-6)
    assert f"{path}: voxels are not cubes" in caplog.text


@pytest.mark.parametrize("z", [0.0, 1.0, 40.0])
def test_what_y_and_x_say_of_the_voxels_outweighs_a_z_that_nobody_filled_in(
    tmp_path: Path, volume: Volume, caplog: pytest.LogCaptureFixture, z: float
) -> None:
    tomogram = read_tomogram(save(tmp_path / "a.mrc", volume, (z, 13.48, 13.48)))
    assert tomogram.voxel_angstrom == pytest.approx(13.48, rel=1e-6)
    assert "what y and x say is used" in caplog.text


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize(
    ("stamp", "flags", "span", "unsigned"),
    [
        (1146047817, 0, (0, 255), True),
        (1146047817, 1, (-128, 127), False),
        (0, 0, (0, 255), True),
        (0, 0, (0, 9), False),
    ],
)
def test_bytes_are_signed_unless_the_header_says_otherwise_in_the_way_of_imod(
    tmp_path: Path, volume: Volume, byte_order: str, stamp: int, flags: int, span: tuple[int, int], unsigned: bool
) -> None:
    grey = np.clip(128 + 40 * volume, 0, 255).astype(np.uint8)
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(grey.view(np.int8))
        if byte_order == ">":
            mrc.header.byteswap(inplace=True)
    header = np.fromfile(path, dtype=np.uint8, count=1024)
    header = bytearray(header.tobytes())
    order = "big" if byte_order == ">" else "little"
    if byte_order == ">":
        header[212:216] = bytes((0x11, 0x11, 0, 0))
    header[152:160] = stamp.to_bytes(4, order) + flags.to_bytes(4, order)
    header[76:84] = np.array(span, dtype=f"{byte_order}f4").tobytes()
    path.write_bytes(bytes(header) + path.read_bytes()[1024:])
    expected = grey.astype(np.float32) if unsigned else grey.view(np.int8).astype(np.float32)
    np.testing.assert_array_equal(read_tomogram(path).data, expected)


@pytest.mark.parametrize(("at", "content"), [(212, b"\x44\x20\x20\x20"), (212, b"\0\0\0\0"), (208, b"\0\0\0\0")])
def test_old_stamps_are_read_with_a_warning(
    tmp_path: Path, volume: Volume, caplog: pytest.LogCaptureFixture, at: int, content: bytes
) -> None:
    path = save(tmp_path / "TS_1.rec", volume)
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + content + whole[at + 4 :])
    tomogram = read_tomogram(path)
    np.testing.assert_array_equal(tomogram.data, volume)
    assert tomogram.name == "TS_1"
    assert f"{path}: " in caplog.text


def test_a_compressed_file_is_said_to_be_one(tmp_path: Path, volume: Volume) -> None:
    path = save(tmp_path / "a.mrc", volume)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=r"a\.mrc: is compressed; expected an MRC file as gunzip unpacks it") as told:
        read_tomogram(path)
    assert str(told.value).startswith(f"{path}: is compressed")


def test_a_header_without_a_grid_gives_no_voxel_size(
    tmp_path: Path, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "a.mrc", volume)
    change_header(path, mx=0)
    assert read_tomogram(path).voxel_angstrom == pytest.approx(10.012444)
    assert "gives no voxel size" in caplog.text


def test_a_corrupt_header_is_refused(tmp_path: Path, volume: Volume) -> None:
    path = save(tmp_path / "a.mrc", volume)
    content = path.read_bytes()
    for broken in (b"", content[:500], b"\x00" * 1024 + content[1024:]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"a\.mrc: (not a readable MRC file|the volume is empty)"):
            read_tomogram(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": 99}, "not a readable MRC file"),
        ({"mapc": 3, "maps": 1}, r"axes \(3, 2, 1\); expected x, y, z"),
        ({"nx": 0}, "the volume is empty"),
        ({"nz": -4}, "the volume is empty"),
        ({"nz": 40}, "cut off"),
        ({"nsymbt": -1000}, "not a readable MRC file"),
    ],
)
def test_a_header_with_impossible_fields_is_refused(
    tmp_path: Path, volume: Volume, fields: dict[str, int], message: str
) -> None:
    path = save(tmp_path / "a.mrc", volume)
    change_header(path, **fields)
    with pytest.raises(InputError, match=message) as caught:
        read_tomogram(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, volume: Volume) -> None:
    path = save(tmp_path / "a.mrc", volume)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="cut off, has 11661 bytes; its header asks for 11664"):
        read_tomogram(path)


def test_an_image_and_a_stack_of_volumes_are_refused(tmp_path: Path, volume: Volume) -> None:
    with pytest.raises(InputError, match=r"axes z, y, x, got shape \(14, 19\)"):
        read_tomogram(save(tmp_path / "image.mrc", volume[0]))
    with pytest.raises(InputError, match=r"axes z, y, x, got shape \(2, 10, 14, 19\)"):
        read_tomogram(save(tmp_path / "stack.mrc", np.stack([volume, volume])))


def test_a_tilt_series_is_refused(tmp_path: Path, volume: Volume) -> None:
    path = save(tmp_path / "tilts.mrc", volume)
    change_header(path, ispg=0, mz=1)
    with pytest.raises(InputError, match=r"tilts\.mrc: is a stack of 10 images, as its header says"):
        read_tomogram(path)
    change_header(path, mz=len(volume))
    assert read_tomogram(path).data.shape == volume.shape
    change_header(path, mx=1, my=1, mz=1)  # by a program that leaves the fields alone
    assert read_tomogram(path).data.shape == volume.shape


def test_what_mrcfile_warns_of_is_logged(tmp_path: Path, volume: Volume, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(volume)
        mrc.set_extended_header(np.arange(10, dtype=np.uint8))
        mrc.header.exttyp = b"FEI1"
    np.testing.assert_array_equal(read_tomogram(path).data, volume)
    assert f"{path}: " in caplog.text


def test_nothing_is_said_of_a_file_that_is_as_it_should_be(
    tmp_path: Path, volume: Volume, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(volume)
        mrc.voxel_size = 10.0
    opened = mrcfile.open

    def ageing(*arguments: Any, **options: Any) -> Any:
        warnings.warn("what mrcfile does is deprecated", DeprecationWarning, stacklevel=1)  # as numpy 2.5 says
        return opened(*arguments, **options)

    monkeypatch.setattr(mrcfile, "open", ageing)
    np.testing.assert_array_equal(read_tomogram(path).data, volume)
    assert not caplog.text

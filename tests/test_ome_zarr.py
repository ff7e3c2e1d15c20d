"""OME-Zarr in stores of zarr v2 and v3, sound and broken, and the form of what is written."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.ome_zarr import halve
from kaggle_cryoet.tomogram import Tomogram, read_tomogram, write_tomogram

Volume = NDArray[np.float32]

BLOSC = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}
STORES: dict[str, dict[str, Any]] = {
    "v2 with dots": {"zarr_format": 2, "compressors": BLOSC},
    "v2 with slashes": {
        "zarr_format": 2,
        "compressors": BLOSC,
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "v2 zlib": {"zarr_format": 2, "compressors": {"id": "zlib", "level": 1}},
    "v2 raw, Fortran order": {"zarr_format": 2, "compressors": None, "order": "F"},
    "v3": {"zarr_format": 3},
    "v3 blosc": {"zarr_format": 3, "compressors": BloscCodec(cname="lz4")},
    "v3 shards": {"zarr_format": 3, "shards": (8, 8, 16)},
}


def multiscales(scale: list[float] | None, path: str = "0", unit: str = "angstrom") -> list[dict[str, Any]]:
    transforms = [] if scale is None else [{"type": "scale", "scale": scale}]
    axes = [{"name": name, "type": "space", "unit": unit} for name in "zyx"]
    return [{"axes": axes, "datasets": [{"path": path, "coordinateTransformations": transforms}], "version": "0.4"}]


def save(path: Path, data: NDArray[np.generic], store: str = "v3", attributes: dict[str, Any] | None = None) -> Path:
    """A group with the data as its array `0`."""
    keywords = STORES[store]
    group = zarr.open_group(path, mode="w", zarr_format=keywords["zarr_format"])
    group.attrs.put({"multiscales": multiscales([10.0, 10.0, 10.0])} if attributes is None else attributes)
    keywords = {key: value for key, value in keywords.items() if key != "zarr_format"}
    chunks = (4, 8, 8)[-data.ndim :] if data.ndim <= 3 else (4,) * data.ndim
    array = group.create_array("0", shape=data.shape, dtype=data.dtype, chunks=chunks, **keywords)
    array[...] = data
    return path


def chunk_files(path: Path) -> list[Path]:
    return sorted(file for file in (path / "0").rglob("*") if file.is_file() and file.name[0] in "0123456789")


@pytest.mark.parametrize("store", STORES)
def test_stores_of_every_kind_are_read(tmp_path: Path, volume: Volume, store: str) -> None:
    tomogram = read_tomogram(save(tmp_path / "a.zarr", volume, store))
    np.testing.assert_array_equal(tomogram.data, volume)
    assert tomogram.data.flags.c_contiguous
    assert tomogram.voxel_angstrom == 10.0


def test_a_bare_array_and_a_group_without_metadata_are_read_with_a_warning(
    tmp_path: Path, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "a.zarr", volume, attributes={})
    np.testing.assert_array_equal(read_tomogram(path).data, volume)
    np.testing.assert_array_equal(read_tomogram(path / "0").data, volume)
    assert caplog.text.count("gives no voxel size") == 2


def test_the_voxel_size_is_the_mean_scale_of_the_first_level(tmp_path: Path, volume: Volume) -> None:
    scale = [10.012444196428572, 10.012444196428572, 10.012444537618887]
    for attributes in (
        {"multiscales": multiscales(scale)},
        {"ome": {"version": "0.5", "multiscales": multiscales(scale)}},
    ):
        tomogram = read_tomogram(save(tmp_path / "a.zarr", volume, attributes=attributes))
        assert tomogram.voxel_angstrom == pytest.approx(10.012444310, abs=1e-9)


def test_the_first_level_is_read_under_the_path_that_the_metadata_give(tmp_path: Path, volume: Volume) -> None:
    path = save(tmp_path / "a.zarr", volume, "v2 with slashes")
    (path / "0").rename(path / "full")
    (path / ".zattrs").write_text(json.dumps({"multiscales": multiscales([8.0, 8.0, 8.0], path="full")}))
    tomogram = read_tomogram(path)
    np.testing.assert_array_equal(tomogram.data, volume)
    assert tomogram.voxel_angstrom == 8.0


def test_a_scale_of_the_whole_image_multiplies_that_of_the_level(tmp_path: Path, volume: Volume) -> None:
    image = multiscales([1.0, 1.0, 1.0])
    image[0]["coordinateTransformations"] = [{"type": "scale", "scale": [7.5, 7.5, 7.5]}]
    assert read_tomogram(save(tmp_path / "a.zarr", volume, attributes={"multiscales": image})).voxel_angstrom == 7.5


@pytest.mark.parametrize(
    ("unit", "scale"), [("nanometer", 1.35), ("nm", 1.35), ("Angstrom", 13.5), ("Å", 13.5), ("µm", 0.00135)]
)
def test_units_are_converted(tmp_path: Path, volume: Volume, unit: str, scale: float) -> None:
    attributes = {"multiscales": multiscales([scale, scale, scale], unit=unit)}
    path = save(tmp_path / "a.zarr", volume, attributes=attributes)
    assert read_tomogram(path).voxel_angstrom == pytest.approx(13.5)


@pytest.mark.parametrize("scale", [None, [0.0, 0.0, 0.0], [10.0, -10.0, 10.0], [float("nan")] * 3])
def test_an_impossible_scale_counts_as_none(
    tmp_path: Path, volume: Volume, scale: list[float] | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "a.zarr", volume, attributes={"multiscales": multiscales(scale)})
    assert read_tomogram(path).voxel_angstrom == 10.012444
    assert f"{path}: gives no voxel size" in caplog.text


@pytest.mark.parametrize("store", STORES)
def test_a_missing_chunk_is_an_error_and_not_a_block_of_zeros(tmp_path: Path, volume: Volume, store: str) -> None:
    path = save(tmp_path / "a.zarr", volume, store)
    files = chunk_files(path)
    files[-1].unlink()
    with pytest.raises(InputError, match=f"1 of {len(files)} chunk files are missing or empty") as caught:
        read_tomogram(path)
    assert str(path) in str(caught.value)


def test_an_array_without_any_chunk_is_an_error(tmp_path: Path, volume: Volume) -> None:
    path = save(tmp_path / "a.zarr", np.zeros_like(volume))
    assert chunk_files(path) == []
    with pytest.raises(InputError, match="18 of 18 chunk files are missing"):
        read_tomogram(path)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.97])
def test_a_chunk_that_is_cut_off_is_an_error(tmp_path: Path, volume: Volume, store: str, keep: float) -> None:
    path = save(tmp_path / "a.zarr", volume, store)
    file = chunk_files(path)[0]
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"missing or empty|is corrupt|cannot be decoded") as caught:
        read_tomogram(path)
    assert str(path) in str(caught.value)


def test_a_chunk_of_noise_is_an_error(tmp_path: Path, volume: Volume) -> None:
    for store in ("v2 with slashes", "v2 zlib", "v3", "v3 blosc", "v3 shards"):
        path = save(tmp_path / "a.zarr", volume, store)
        file = chunk_files(path)[0]
        file.write_bytes(b"\x07" * file.stat().st_size)
        with pytest.raises(InputError, match=r"is corrupt|cannot be decoded"):
            read_tomogram(path)


def test_volumes_of_other_dimensions_and_empty_ones_are_refused(tmp_path: Path, volume: Volume) -> None:
    with pytest.raises(InputError, match=r"axes z, y, x, got shape \(14, 19\)"):
        read_tomogram(save(tmp_path / "plane.zarr", volume[0]))
    with pytest.raises(InputError, match=r"axes z, y, x, got shape \(2, 10, 14, 19\)"):
        read_tomogram(save(tmp_path / "channels.zarr", np.stack([volume, volume])))
    with pytest.raises(InputError, match=r"empty, its shape is \(0, 14, 19\)"):
        read_tomogram(save(tmp_path / "empty.zarr", volume[:0]))


@pytest.mark.parametrize("before", ["c", "tc"])
def test_axes_of_one_entry_before_z_are_passed_over(tmp_path: Path, volume: Volume, before: str) -> None:
    axes = [{"name": name} for name in before] + [{"name": name, "unit": "nanometer"} for name in "zyx"]
    scale = [5.0] * len(before) + [1.0, 1.2, 1.2]
    transforms = [{"type": "scale", "scale": scale}]
    image = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}]
    data = volume.reshape((1,) * len(before) + volume.shape)
    tomogram = read_tomogram(save(tmp_path / "a.zarr", data, attributes={"multiscales": image}))
    np.testing.assert_array_equal(tomogram.data, volume)
    assert tomogram.voxel_angstrom == pytest.approx(12.0)


def test_of_levels_out_of_order_the_finest_is_taken(
    tmp_path: Path, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    image = multiscales(None)
    image[0]["datasets"] = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": [size] * 3}]}
        for path, size in (("2", 40.0), ("0", 10.0), ("1", 20.0))
    ]
    tomogram = read_tomogram(save(tmp_path / "a.zarr", volume, attributes={"multiscales": image}))
    np.testing.assert_array_equal(tomogram.data, volume)
    assert tomogram.voxel_angstrom == 10.0
    assert "its levels are out of order; the finest, '0', is taken" in caplog.text
    del image[0]["datasets"][1]["coordinateTransformations"]  # then what order they are in is not known
    image[0]["datasets"].reverse()
    image[0]["datasets"][0]["path"] = "0"
    again = read_tomogram(save(tmp_path / "b.zarr", volume, attributes={"multiscales": image}))
    assert again.voxel_angstrom == 20.0


def test_axes_in_another_order_are_refused(tmp_path: Path, volume: Volume) -> None:
    image = multiscales([10.0, 10.0, 10.0])
    image[0]["axes"].reverse()
    with pytest.raises(InputError, match=r"axes are \['x', 'y', 'z'\].*expected z, y, x"):
        read_tomogram(save(tmp_path / "a.zarr", volume, attributes={"multiscales": image}))


@pytest.mark.parametrize(
    "faulty",
    [[{}], [{"datasets": []}], [{"datasets": [{}]}], "text", {"datasets": 1}, multiscales(["a", "b", "c"])],  # type: ignore[list-item]
)
def test_metadata_that_do_not_follow_ome_zarr_are_refused(tmp_path: Path, volume: Volume, faulty: object) -> None:
    path = save(tmp_path / "a.zarr", volume, attributes={"multiscales": faulty})
    with pytest.raises(InputError, match="`multiscales` metadata do not follow OME-Zarr"):
        read_tomogram(path)


def test_folders_without_an_array_are_refused(tmp_path: Path) -> None:
    (tmp_path / "nothing.zarr").mkdir()
    with pytest.raises(InputError, match=r"nothing\.zarr: not a readable zarr store"):
        read_tomogram(tmp_path / "nothing.zarr")
    for zarr_format in (2, 3):
        zarr.open_group(tmp_path / "group.zarr", mode="w", zarr_format=zarr_format)
        with pytest.raises(InputError, match=r"group\.zarr: holds no readable array '0'"):
            read_tomogram(tmp_path / "group.zarr")
    zarr.open_group(tmp_path / "nested.zarr", mode="w").create_group("0")
    with pytest.raises(InputError, match=r"nested\.zarr: expected a zarr array"):
        read_tomogram(tmp_path / "nested.zarr")


@pytest.mark.parametrize("name", [".zgroup", ".zattrs", "0/.zarray"])
def test_broken_metadata_files_are_refused(tmp_path: Path, volume: Volume, name: str) -> None:
    path = save(tmp_path / "a.zarr", volume, "v2 with slashes")
    (path / name).write_text('{"zarr_format": 2, ')
    with pytest.raises(InputError, match=r"a\.zarr: "):
        read_tomogram(path)


def test_what_is_written_has_the_form_of_the_competitions_files(tmp_path: Path, volume: Volume) -> None:
    path = tmp_path / "denoised.zarr"
    write_tomogram(path, Tomogram(data=volume, voxel_angstrom=10.012444, name="TS_1"))
    assert json.loads((path / ".zgroup").read_text()) == {"zarr_format": 2}
    assert json.loads((path / ".zattrs").read_text()) == {
        "multiscales": [
            {
                "axes": [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"],
                "datasets": [
                    {"coordinateTransformations": [{"scale": [scale] * 3, "type": "scale"}], "path": level}
                    for level, scale in (("0", 10.012444), ("1", 20.024888), ("2", 40.049776))
                ],
                "metadata": {},
                "name": "/",
                "version": "0.4",
            }
        ]
    }
    for level, shape in (("0", [10, 14, 19]), ("1", [5, 7, 10]), ("2", [3, 4, 5])):
        assert json.loads((path / level / ".zarray").read_text()) == {
            "chunks": [256, 256, 256],
            "compressor": BLOSC,
            "dimension_separator": "/",
            "dtype": "<f4",
            "fill_value": 0.0,
            "filters": None,
            "order": "C",
            "shape": shape,
            "zarr_format": 2,
        }
        assert (path / level / "0" / "0" / "0").is_file()


def test_the_levels_that_are_written_are_halvings_of_each_other(tmp_path: Path, volume: Volume) -> None:
    path = tmp_path / "a.zarr"
    write_tomogram(path, Tomogram(data=volume, voxel_angstrom=10.0, name="a"))
    group = zarr.open_group(path, mode="r")
    levels = [np.asarray(group[str(level)]) for level in range(3)]
    np.testing.assert_array_equal(levels[1], halve(levels[0]))
    np.testing.assert_array_equal(levels[2], halve(levels[1]))


def test_a_volume_of_several_chunks_is_written_whole(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(3, 258, 5)).astype(np.float32)
    write_tomogram(tmp_path / "a.zarr", Tomogram(data=data, voxel_angstrom=10.0, name="a"), levels=1)
    np.testing.assert_array_equal(read_tomogram(tmp_path / "a.zarr").data, data)


def test_blank_chunks_are_written_too(tmp_path: Path) -> None:
    data = np.zeros((3, 258, 5), dtype=np.float32)
    data[0, 0, 0] = 1.0
    write_tomogram(tmp_path / "a.zarr", Tomogram(data=data, voxel_angstrom=10.0, name="a"), levels=1)
    np.testing.assert_array_equal(read_tomogram(tmp_path / "a.zarr").data, data)


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 7)] * 3), seed=st.integers(0, 99))
def test_halving_takes_the_mean_of_the_voxels_in_each_block(shape: tuple[int, int, int], seed: int) -> None:
    data = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    halved = halve(data)
    assert halved.shape == tuple(-(-edge // 2) for edge in shape)
    assert halved.dtype == np.float32
    for z, y, x in itertools.product(*map(range, halved.shape)):
        block = data[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(np.float64)
        assert halved[z, y, x] == pytest.approx(block.mean(), abs=1e-6)


def test_halving_leaves_its_input_alone(volume: Volume) -> None:
    before = volume.copy()
    halve(volume)
    np.testing.assert_array_equal(volume, before)

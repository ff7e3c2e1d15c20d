"""A first look at the image of a single slice: reading it, detecting, counting against picks, drawing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kaggle_cryoet import look as look_module
from kaggle_cryoet.cli_look import look
from kaggle_cryoet.copick import write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.look import LookSettings, detect_in_image, look_at_image
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES, label_of
from kaggle_cryoet.picking.adapt import tone_of
from kaggle_cryoet.picking.detect import Detections, DetectSettings, detect
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report.slice_count import count_detections
from kaggle_cryoet.slice_image import read_slice_image

VOXEL = 10.012444
SHAPE_YX = (72, 104)


def discs(tone: str = "dark", seed: int = 0) -> NDArray[np.uint8]:
    """`(y, x)` noise with three discs, dark or bright."""
    rng = np.random.default_rng(seed)
    grey = rng.normal(128, 8, SHAPE_YX)
    y, x = np.indices(SHAPE_YX)
    for row, column in ((20, 30), (50, 80), (40, 15)):
        grey[(y - row) ** 2 + (x - column) ** 2 < 36] -= 70
    return np.clip(grey if tone == "dark" else 255 - grey, 0, 255).astype(np.uint8)


def picks_at(*places: tuple[str, float, float, float]) -> Picks:
    """Picks from names and zyx in voxels."""
    return Picks(
        position_zyx_angstrom=np.array([place[1:] for place in places]).reshape(-1, 3) * VOXEL,
        label=np.array([label_of(place[0]) for place in places], dtype=np.int64),
    )


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp"])
def test_images_of_any_usual_format_come_with_rows_as_y(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"slice.{suffix}"
    Image.fromarray(discs()).save(path)
    image = read_slice_image(path)
    assert image.shape == SHAPE_YX
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, discs(), atol=30 if suffix == "jpg" else 0)


def test_images_of_16_bits_of_floats_and_of_colours_are_read_too(tmp_path: Path) -> None:
    deep = discs().astype(np.uint16) * 200
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_slice_image(tmp_path / "deep.png"), deep)
    floats = discs().astype(np.float32) * -1e-6
    Image.fromarray(floats).save(tmp_path / "floats.tif")
    np.testing.assert_array_equal(read_slice_image(tmp_path / "floats.tif"), floats)
    Image.fromarray(np.repeat(discs()[..., None], 3, axis=2)).save(tmp_path / "colours.png")
    np.testing.assert_array_equal(read_slice_image(tmp_path / "colours.png"), discs())


def save_frames(path: Path) -> None:
    first, second = Image.fromarray(discs()), Image.fromarray(discs(seed=1))
    first.save(path, save_all=True, append_images=[second])


def save_not_finite(path: Path) -> None:
    image = discs().astype(np.float32)
    image[3, 4] = np.nan
    Image.fromarray(image).save(path)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("absent.png", lambda path: None, "does not exist"),
        ("folder.png", lambda path: path.mkdir(), "is a folder; expected an image"),
        ("text.png", lambda path: path.write_text("not an image"), "not an image; expected one slice as png"),
        ("volume.mrc", lambda path: path.write_bytes(bytes(2048)), "not an image"),
        ("nothing.png", lambda path: path.write_bytes(b""), "not an image"),
        ("empty.png", lambda path: Image.new("L", (64, 40), 7).save(path), "is empty: all pixels have the value 7"),
        ("stack.tif", save_frames, "holds 2 images; expected one slice"),
        (
            "tiny.png",
            lambda path: Image.fromarray(discs()[:20]).save(path),
            "has 104 x 20 pixels; expected 32 or more each way",
        ),
        ("nan.tif", save_not_finite, "1 of 7488 pixels are NaN"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_what_is_no_image_of_a_slice_is_said_with_its_path(
    tmp_path: Path, name: str, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=words) as raised:
        read_slice_image(tmp_path / name)
    assert name in str(raised.value)


def test_an_image_that_was_cut_off_is_said(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(discs()).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"cut\.png: cannot be read as an image"):
        read_slice_image(path)


def test_the_tone_of_the_particles_is_seen_and_said_if_it_is_not(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert tone_of(discs("dark").astype(np.float32)[None]) == "dark"
    assert tone_of(discs("bright").astype(np.float32)[None]) == "bright"
    noise = np.random.default_rng(0).normal(size=(90, 80)).astype(np.float32)
    detect_in_image(noise, weights, LookSettings(tone="dark"))
    assert caplog.text == ""
    detect_in_image(noise, weights, LookSettings())
    assert "do not tell" in caplog.text


def test_an_image_of_another_scale_is_resampled_and_places_stay_in_angstrom(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaggle_cryoet.picking import detect as detect_module

    seen = []

    def detections(network: object, volume: NDArray[np.float32], *rest: object) -> Detections:
        seen.append(volume)
        return Detections(
            index_zyx=np.array([[0.0, 20.0, 30.0]]),
            diameter_voxels=np.array([[10.0, 10.0]]),
            label=np.array([3]),
            confidence=np.array([0.9]),
            slices=np.array([0]),
        )

    monkeypatch.setattr(detect_module, "detect", detections)
    found, radius = detect_in_image(discs().astype(np.float32), weights, LookSettings(voxel_angstrom=20.024888))
    assert seen[0].shape == (1, 2 * SHAPE_YX[0] - 1, 2 * SHAPE_YX[1] - 1)
    assert seen[0][0, 40, 60] < -3  # the disc at 20, 30
    np.testing.assert_allclose(found.position_zyx_angstrom, [[0, 200.24888, 300.37332]])
    np.testing.assert_allclose(radius, [50.06222])


def test_detections_are_counted_as_in_the_score_but_in_the_plane() -> None:
    """At z = 50: half a ribosome's radius is 7.49 voxels, half an apo-ferritin's 3.00."""
    truth = picks_at(
        ("ribosome", 50, 30, 40),  # detected 7 voxels off
        ("ribosome", 60, 80, 20),  # its centre 10 voxels off the slice: detected
        ("ribosome", 50, 30, 90),  # detected 8 voxels off: missed
        ("ribosome", 64, 60, 60),  # grazed, 14 of 15 voxels off: detected, neither hit nor false
        ("ribosome", 70, 10, 10),  # the slice passes by
        ("apo-ferritin", 50, 10, 60),  # detected as a ribosome: missed
        ("apo-ferritin", 50, 60, 20),  # detected twice
    )
    found = picks_at(
        ("ribosome", 0, 37, 40),
        ("ribosome", 0, 80, 21),
        ("ribosome", 0, 38, 90),
        ("ribosome", 0, 60, 60),
        ("ribosome", 0, 10, 60),
        ("apo-ferritin", 0, 60, 20),
        ("apo-ferritin", 0, 60, 21),
    )
    count = count_detections(found, truth, z_angstrom=50 * VOXEL)
    assert count.shown is not None
    assert count.shown_is_hit is not None
    assert count.shown.label.tolist() == [3, 3, 3, 0, 0]
    assert count.shown_is_hit.tolist() == [True, True, False, False, True]
    assert count.found_is_false.tolist() == [False, False, True, False, True, False, True]
    rows = {line[:20].strip(): line[20:].split() for line in count.format_table().splitlines()}
    assert rows["particle"] == ["detected", "shown", "hit", "missed", "false"]
    assert rows["ribosome"] == ["5", "3", "2", "1", "2"]
    assert rows["apo-ferritin"] == ["2", "2", "1", "1", "1"]
    assert rows["all"] == ["7", "5", "3", "2", "3"]


@pytest.mark.parametrize("particle", PARTICLES, ids=PARTICLE_NAMES)
def test_a_particle_is_shown_up_to_the_height_at_which_its_circle_has_half_its_radius(particle) -> None:
    limit = particle.radius_angstrom * np.sqrt(0.75) / VOXEL
    truth = picks_at((particle.name, 50 + 0.999 * limit, 30, 40), (particle.name, 50 - 1.001 * limit, 30, 40))
    count = count_detections(picks_at(), truth, z_angstrom=50 * VOXEL)
    assert count.shown is not None
    assert len(count.shown) == 1


def test_without_picks_detections_are_only_counted() -> None:
    count = count_detections(picks_at(("ribosome", 0, 1, 2)), None, z_angstrom=0)
    assert count.shown is None
    assert not count.found_is_false.any()
    assert count.format_table().splitlines()[-1].split() == ["all", "1"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a YOLO11 of random weights, which finds nothing by chance."""
    import torch

    from kaggle_cryoet.models.store import YoloModel, save_yolo
    from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("weights")
    settings = YoloSettings(size="n")
    model = YoloModel(network=build_yolo(settings), settings=settings, thresholds=(0.5,) * 6, provenance={})
    save_yolo(folder / "yolo11", model)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "slice.png"
    Image.fromarray(discs("bright")).save(path)
    return path


def test_the_detector_sees_particles_dark_and_the_slice_three_times(
    image: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaggle_cryoet.picking import detect as detect_module

    seen = []

    def boxes(network: object, images: NDArray[np.uint8], *rest: object) -> object:
        seen.append(images)
        raise RuntimeError("seen")

    monkeypatch.setattr(detect_module, "_boxes_in", boxes)
    for tone in ("auto", "bright", "dark"):
        with pytest.raises(RuntimeError, match="seen"):
            look_at_image(image, output=tmp_path / "o.png", weights=weights, settings=LookSettings(tone=tone))
    auto, bright, dark = (images[0] for images in seen)
    assert auto.shape == (3, *SHAPE_YX)
    np.testing.assert_array_equal(auto, bright)
    np.testing.assert_array_equal(auto[0], auto[1])
    np.testing.assert_array_equal(auto[0], auto[2])
    assert auto[0, 20, 30] < np.median(auto) < dark[0, 20, 30]


def test_planted_detections_are_drawn_and_counted(
    image: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = picks_at(("ribosome", 0, 20, 30), ("thyroglobulin", 0, 50, 80))
    monkeypatch.setattr(look_module, "detect_in_image", lambda *_: (planted, np.array([150.0, 130.0])))
    write_copick(tmp_path / "Picks", picks_at(("ribosome", 98, 21, 30), ("ribosome", 97, 40, 15)), "TS_1")
    pictures = []
    for name, options in (("without.png", {}), ("with.png", {"picks_directory": tmp_path / "Picks", "z": 98})):
        count = look_at_image(image, output=tmp_path / name, weights=weights, **options)
        with Image.open(tmp_path / name) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    assert count.shown_is_hit is not None
    assert count.shown_is_hit.tolist() == [True, False]
    assert count.found_is_false.tolist() == [False, True]
    # a slice of 104 voxels is drawn at 12 pixels each; the circle of the first detection is 180 pixels wide
    y, x = 64 + int(20.5 * 12), round((1260 - 104 * 12) / 2) + int(30.5 * 12)
    ring = np.array([0x2F, 0xD6, 0xA2])
    for picture in pictures:
        assert picture.shape[1] == 1260
        on_ring = np.abs(picture[y, x + 175 : x + 185].astype(int) - ring).sum(axis=1)
        assert on_ring.min() < 40


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kaggle_cryoet", "look", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    return run


def test_the_command_prints_the_table_and_writes_the_picture(
    command: Callable[..., subprocess.CompletedProcess[str]], image: Path, weights: Path, tmp_path: Path
) -> None:
    write_copick(tmp_path / "Picks", picks_at(("ribosome", 98, 21, 30)), "TS_1")
    done = command(image, "--weights", weights, "--picks", tmp_path / "Picks", "--z", 98)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["particle", "detected", "shown", "hit", "missed", "false"]
    assert done.stdout.splitlines()[-1] == "picture: slice-look.png"
    with Image.open(tmp_path / "slice-look.png") as picture:
        assert picture.size[0] == 1260


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--z", 98), "give both --picks and --z"),
        (("--picks", "nowhere", "--z", 98), "nowhere: not a folder"),
        (("--output", "slice.png"), "is the image to look at"),
        (("--output", "nowhere/picture.png"), "its folder does not exist"),
        (("--voxel", 0), "a pixel is between 2 and 40 Å"),
        (("--voxel", 1), "a pixel is between 2 and 40 Å, got 1.0 Å"),
        (("--voxel", "nan"), "a pixel is between 2 and 40 Å"),
        (("--weights", "nowhere"), "nowhere: no such model folder"),
    ],
)
def test_wrong_use_is_said(
    image: Path, options: tuple[object, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    with pytest.raises(InputError, match=words):
        look.main(["slice.png", *map(str, options)], standalone_mode=False)
    assert [path.name for path in image.parent.iterdir()] == ["slice.png"]


def test_picks_of_several_runs_are_refused(image: Path, weights: Path, tmp_path: Path) -> None:
    for run in ("TS_1", "TS_2"):
        write_copick(tmp_path / "overlay" / "ExperimentRuns" / run / "Picks", picks_at(("ribosome", 1, 2, 3)), run)
    with pytest.raises(InputError, match=r"picks of 2 runs \(TS_1, TS_2\)"):
        look_at_image(image, output=tmp_path / "o.png", picks_directory=tmp_path / "overlay", z=1, weights=weights)


def test_signed_bytes_and_64_bit_floats_of_a_tif(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(-100, 100, (40, 50)).astype(np.int8)
    image = Image.fromarray(levels.view(np.uint8))
    image.save(tmp_path / "signed.tif", tiffinfo={339: 2})
    np.testing.assert_array_equal(read_slice_image(tmp_path / "signed.tif"), levels.astype(np.float32))
    image.save(tmp_path / "unsigned.tif")
    np.testing.assert_array_equal(read_slice_image(tmp_path / "unsigned.tif"), levels.view(np.uint8))
    wide = np.arange(40 * 50, dtype=np.uint32).reshape(40, 50) * np.uint32(2**21)
    cv2.imwrite(str(tmp_path / "wide.tif"), wide)
    np.testing.assert_allclose(read_slice_image(tmp_path / "wide.tif"), wide, rtol=1e-6)
    deep = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
    Image.fromarray(deep).save(tmp_path / "inverted.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_slice_image(tmp_path / "inverted.tif"), -deep.astype(np.float32))
    (tmp_path / "double.tif").write_bytes(b"II*\0")
    with pytest.raises(InputError, match="expected one slice as png, jpg or tif of up to 32 bits"):
        read_slice_image(tmp_path / "double.tif")


def test_what_is_seen_in_an_image_does_not_depend_on_the_processor(
    image: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(network: object, volume: object, how: DetectSettings, *others: object) -> Detections:
        asked.append(how.mixed_precision)
        return detect(network, volume, how, *others)  # type: ignore[arg-type]

    monkeypatch.setattr("kaggle_cryoet.picking.detect.detect", noted)
    detect_in_image(read_slice_image(image), weights, LookSettings())
    assert asked == [False]

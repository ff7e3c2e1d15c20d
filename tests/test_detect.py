"""Boxes in slices: the same as ultralytics' own decoding and suppression give, whatever the batch."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking import boxes, detect
from kaggle_cryoet.picking.boxes import best_of_overlapping, complete_at_borders, decode
from kaggle_cryoet.picking.detect import DetectSettings

CPU = torch.device("cpu")
EXACT = DetectSettings(mixed_precision=False, least_confidence=0.3, batch_size=2, stride_z=1)


class DarkPatches(torch.nn.Module):
    """Stands in for a detector: a patch of 8 x 8 pixels is sure by its darkness; a class is a channel, or two."""

    stride = torch.tensor([8.0])

    def is_fused(self) -> bool:
        return True

    def forward(self, images: torch.Tensor) -> tuple[None, dict[str, Any]]:
        level = torch.nn.functional.avg_pool2d(images.float(), 8)  # (batch, 3, y / 8, x / 8)
        scores = 40 * (0.5 - torch.cat([level, level.roll(1, dims=1) + 0.02], dim=1))
        logits = torch.full((len(images), 4, 16, *level.shape[2:]), -99.0)
        for edge, bin in enumerate((1, 2, 1, 0)):
            logits[:, edge, bin] = 0.0
        return None, {"scores": scores.flatten(2), "boxes": logits.reshape(len(images), 64, -1), "feats": [level]}


@pytest.fixture
def network() -> torch.nn.Module:
    return DarkPatches()


@pytest.fixture(scope="module")
def noise() -> NDArray[np.float32]:
    """`(5, 50, 90)`: patches of 8 x 8 voxels, of which some are dark enough to be seen."""
    patches = np.random.default_rng(5).normal(-0.5, 2, size=(5, 7, 12))
    return patches.repeat(8, axis=1).repeat(8, axis=2)[:, :50, :90].astype(np.float32)


def test_boxes_are_those_of_ultralytics() -> None:
    from ultralytics.utils.nms import non_max_suppression

    torch.manual_seed(2)
    head: Any = build_yolo(YoloSettings()).eval().model[-1]  # type: ignore[index, operator, union-attr]
    maps = [torch.zeros(2, 4, 64 // stride, 96 // stride) for stride in (8, 16, 32)]
    anchors = sum(m.shape[2] * m.shape[3] for m in maps)
    scores, distances = torch.randn(2, 6, anchors) - 1, 2 * torch.randn(2, 64, anchors)
    answer = head._inference({"scores": scores, "boxes": distances, "feats": maps})
    found = decode(scores, distances, maps, [8, 16, 32], 0.3)
    kept = best_of_overlapping(found.image * 6 + found.label, found.confidence, found.corners, 0.4)
    expected = non_max_suppression(answer, 0.3, 0.4, multi_label=True, max_det=10_000, max_time_img=10)
    for image, rows in enumerate(expected):
        here = kept[found.image[kept] == image]
        ours = np.column_stack([found.corners, found.confidence, found.label])[here]
        order = np.lexsort((-rows[:, 4], rows[:, 5]))
        assert 50 < len(here) < (found.image == image).sum()
        np.testing.assert_allclose(ours, rows[order], atol=1e-3)


def test_a_prepared_network_answers_as_before_and_the_given_one_is_left_as_it_is() -> None:
    torch.manual_seed(3)
    network = build_yolo(YoloSettings()).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prepared = detect.prepare(network, CPU)
    assert detect.prepare(prepared, CPU) is prepared
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        (boxes, raw), (expected, _) = prepared(image), network(image)
    torch.testing.assert_close(boxes, expected, rtol=1e-3, atol=1e-3)
    own = decode(raw["scores"], raw["boxes"], raw["feats"], prepared.stride.int().tolist(), 1e-6)  # type: ignore[operator]
    rows = expected[0, :, (expected[0, 4:] > 1e-6).any(dim=0)]
    assert len(own.label) == (expected[0, 4:] > 1e-6).sum() > 100
    centre = (own.corners[:, :2] + own.corners[:, 2:]) / 2
    np.testing.assert_allclose(np.unique(centre.round(1)), np.unique(rows[:2].numpy().round(1)), atol=0.2)
    assert list(network.state_dict()) == list(before)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_dark_patch_is_found_where_it_is(network: torch.nn.Module) -> None:
    volume = np.full((7, 50, 90), 3.0, dtype=np.float32)
    volume[4, 16:24, 40:48] = -7.0
    found = detect.detect(network, volume, EXACT, YoloSettings(neighbour_voxels=2), CPU)
    # channels are the slices below, at and above: classes 0, 1, 2, and once more, in the order 2, 0, 1, classes 3, 4, 5
    shown = sorted(zip(found.index_zyx[:, 0].astype(int).tolist(), found.label.tolist(), strict=True))
    assert shown == [(2, 2), (2, 3), (4, 1), (4, 5), (6, 0), (6, 4)]
    x, y = 44, 20  # in pixels; the box reaches 8 to the left, 16 up, 8 to the right, not down
    np.testing.assert_allclose(found.index_zyx[:, 1], (y - 16 + y) / 2 - 0.5)
    np.testing.assert_allclose(found.index_zyx[:, 2], x - 0.5)
    np.testing.assert_allclose(found.diameter_voxels, [[16, 16]] * len(found))


def test_the_size_of_the_batch_makes_no_difference(network: torch.nn.Module, noise: NDArray[np.float32]) -> None:
    one = detect.detect(network, noise, EXACT, YoloSettings(), CPU)
    all_at_once = DetectSettings(mixed_precision=False, least_confidence=0.3, batch_size=9, stride_z=1)
    other = detect.detect(network, noise, all_at_once, YoloSettings(), CPU)
    np.testing.assert_array_equal(one.label, other.label)
    np.testing.assert_allclose(one.index_zyx, other.index_zyx, atol=1e-3)


def test_every_third_slice_is_looked_at_from_the_middle_of_what_is_left_over(
    network: torch.nn.Module, noise: NDArray[np.float32]
) -> None:
    settings = DetectSettings(mixed_precision=False, least_confidence=0.3, stride_z=3)
    found = detect.detect(network, noise, settings, YoloSettings(), CPU)
    assert found.slices.tolist() == [0, 3]
    assert set(found.index_zyx[:, 0]) <= {0.0, 3.0}
    whole = detect.detect(network, noise, EXACT, YoloSettings(), CPU)
    np.testing.assert_allclose(found.index_zyx, whole.index_zyx[np.isin(whole.index_zyx[:, 0], [0, 3])], atol=1e-3)


def test_a_detector_that_sees_nothing_gives_an_empty_answer_for_one_slice_as_for_many() -> None:
    torch.manual_seed(1)
    blind = detect.prepare(build_yolo(YoloSettings()), CPU)
    for depth in (1, 3):
        every = DetectSettings(stride_z=1)
        found = detect.detect(blind, np.zeros((depth, 20, 40), dtype=np.float32), every, YoloSettings(), CPU)
        assert len(found) == 0
        assert found.index_zyx.shape == (0, 3)
        assert found.diameter_voxels.shape == (0, 2)
        assert found.slices.tolist() == list(range(depth))


def test_memory_that_runs_out_halves_the_batch_and_loses_no_slice(
    network: torch.nn.Module, noise: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, sizes = detect._boxes_in, []

    def small_memory(network: Any, images: Any, *rest: Any) -> Any:
        sizes.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return genuine(network, images, *rest)

    expected = detect.detect(network, noise, EXACT, YoloSettings(), CPU)
    monkeypatch.setattr(detect, "_boxes_in", small_memory)
    settings = DetectSettings(mixed_precision=False, least_confidence=0.3, batch_size=4, stride_z=1)
    found = detect.detect(network, noise, settings, YoloSettings(), CPU)
    assert sizes == [4, 2, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(found.index_zyx, expected.index_zyx, atol=1e-3)

    def no_memory(*arguments: Any) -> Any:
        raise MemoryError("not enough memory")

    monkeypatch.setattr(detect, "_boxes_in", no_memory)
    with pytest.raises(MemoryError):
        detect.detect(network, noise, settings, YoloSettings(), CPU)


def test_an_overflow_in_half_precision_goes_on_in_float32_and_a_nan_is_an_error(
    network: torch.nn.Module, noise: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, used = detect._boxes_in, []

    def overflowing(network: Any, images: Any, settings: Any, device: Any, dtype: Any) -> Any:
        used.append(dtype)
        if dtype is not None:
            raise FloatingPointError("overflow")
        return genuine(network, images, settings, device, dtype)

    monkeypatch.setattr(detect, "_boxes_in", overflowing)
    monkeypatch.setattr(detect, "autocast_dtype", lambda device: torch.bfloat16)
    settings = DetectSettings(least_confidence=0.3, batch_size=3, stride_z=1)
    assert len(detect.detect(network, noise, settings, YoloSettings(), CPU))
    assert used == [torch.bfloat16, None, None]
    with pytest.raises(FloatingPointError, match="not finite"):
        decode(torch.full((1, 6, 1), torch.nan), torch.zeros(1, 64, 1), [torch.zeros(1, 1)], [8], 0.1)
    with pytest.raises(FloatingPointError, match="boxes that are not finite"):
        decode(torch.zeros(1, 6, 1), torch.full((1, 64, 1), torch.nan), [torch.zeros(1, 1)], [8], 0.1)


def test_a_distance_is_the_mean_over_its_bins_from_the_centre_of_the_pixel() -> None:
    scores = torch.full((2, 6, 5), -9.0)
    scores[1, 4, 3] = 2.0  # the second map's pixel y = 0, x = 1 comes after the first map's two
    distances = torch.full((2, 4 * 4, 5), -99.0)
    for edge, bins in enumerate(([1], [0], [3], [1, 2])):
        distances[1, [4 * edge + bin for bin in bins], 3] = 0.0
    found = decode(scores, distances, [torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 3)], [8, 16], 0.5)
    assert (found.image.tolist(), found.label.tolist()) == ([1], [4])
    assert found.confidence == pytest.approx([1 / (1 + np.exp(-2))])
    np.testing.assert_allclose(found.corners, [[16 * 0.5, 16 * 0.5, 16 * 4.5, 16 * 2.0]])


def test_of_too_many_boxes_in_an_image_the_surest_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "MOST_BOXES_PER_IMAGE", 4)
    scores = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(2))
    scores[2] = -9
    found = decode(scores, torch.zeros(3, 64, 7), [torch.zeros(1, 7)], [8], 0.3)
    assert np.bincount(found.image, minlength=3).tolist() == [4, 4, 0]
    best = scores[0].flatten().sigmoid().sort(descending=True).values[:4]
    np.testing.assert_allclose(np.sort(found.confidence[found.image == 0])[::-1], best, rtol=1e-6)


def test_overlapping_boxes_are_dropped_as_by_torchvision() -> None:
    from torchvision.ops import batched_nms

    rng = np.random.default_rng(4)
    corner, edge = rng.random((600, 2)) * 60, rng.random((600, 2)) * 20 + 4
    corners, confidence = np.hstack([corner, corner + edge]), rng.random(600)
    group = rng.integers(0, 3 * len(PARTICLES), 600)
    kept = best_of_overlapping(group, confidence, corners, 0.3)
    expected = batched_nms(torch.from_numpy(corners), torch.from_numpy(confidence), torch.from_numpy(group), 0.3)
    assert sorted(kept) == sorted(expected.tolist())
    assert 100 < len(kept) < 590
    assert (np.diff(group[kept]) >= 0).all()
    order = np.lexsort((-confidence, group))
    plain = boxes._keep_greedily.py_func(group[order], corners[order], 0.3)
    assert order[plain].tolist() == kept.tolist()


def test_a_box_that_a_border_cuts_is_a_square_again_and_others_stay() -> None:
    corners = np.array(
        [
            [0.0, 20, 12, 40],
            [70, 5, 90, 25],
            [78, 30, 90, 50],
            [30, 0.5, 50, 8],
            [20, 41, 38, 50],
            [0, 0, 9, 14],
            [4, 4, 9, 30],
        ]
    )
    whole = complete_at_borders(corners, (50, 90))
    np.testing.assert_allclose(whole[0], [-8, 20, 12, 40])
    np.testing.assert_allclose(whole[1], corners[1])
    np.testing.assert_allclose(whole[2], [78, 30, 98, 50])
    np.testing.assert_allclose(whole[3], [30, -12, 50, 8])
    np.testing.assert_allclose(whole[4], [20, 41, 38, 59])
    np.testing.assert_allclose(whole[5], [-5, 0, 9, 14])  # in the corner, and wider than high for all that is seen
    np.testing.assert_allclose(whole[6], corners[6])
    cut_twice = complete_at_borders(np.array([[0.0, 10, 20, 70]]), (100, 20))
    np.testing.assert_allclose(cut_twice, [[-40, 10, 20, 70]])  # it grows to one side alone


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"stride_z": 0}, {"least_confidence": 0.0}, {"most_iou": 1.5}])
def test_settings_out_of_range_are_an_input_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        DetectSettings(**wrong)

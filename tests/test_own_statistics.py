"""A network that goes by the statistics of a tomogram: how they move, and when it does so."""

import itertools
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.models.store import UNetModel
from kaggle_cryoet.models.unet3d import HOST, HalfUNet, UNetSettings, build_unet, space_to_depth
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking import own_statistics, pickers
from kaggle_cryoet.picking.own_statistics import CROP_VOXELS, SHARE, middle, with_statistics_of
from kaggle_cryoet.picking.pickers import LEAST_GAIN, UNetPicker
from kaggle_cryoet.picking.segment import ScoreGrid, SegmentSettings, segment
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picking.windows import WindowSettings

CPU = torch.device("cpu")
RIBOSOME = 3
LEAST_GAIN_TOLD = 0.08
"""As README and docs tell it."""
SURE = Calibration(slope=(1.0,) * len(PARTICLES), offset=(0.0,) * len(PARTICLES))


def noise(seed: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- statistics ---


def small_unet() -> HalfUNet:
    torch.manual_seed(0)
    return HalfUNet((4, 6)).eval()


def test_statistics_move_their_share_of_the_way_to_those_of_the_crops() -> None:
    network, shape = small_unet(), (120, 200, 120)
    volume = 3 * noise(0, shape) + 2
    before = {name: value.clone() for name, value in network.state_dict().items()}
    own = with_statistics_of(volume, network, CPU, mixed_precision=False)
    assert isinstance(own, HalfUNet)
    starts = ((8, 26, 6), (16, 26, 18), (16, 78, 6), (8, 78, 18))  # of 24, 104 and 24 that are free
    crops = [volume[tuple(slice(first, first + CROP_VOXELS) for first in start)] for start in starts]
    with torch.inference_mode():
        answer = network.stem(space_to_depth(torch.from_numpy(np.stack(crops)[:, None]))).numpy()
    mean, variance = answer.mean(axis=(0, 2, 3, 4)), answer.var(axis=(0, 2, 3, 4))
    np.testing.assert_allclose(own.stem_norm.running_mean, SHARE * mean, atol=0.02)  # from 0, and from 1
    np.testing.assert_allclose(own.stem_norm.running_var, 1 - SHARE + SHARE * variance, rtol=0.02)
    assert not own.training
    assert not any(layer.training for layer in own.modules())
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    weights = dict(network.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in own.named_parameters())


def test_a_volume_smaller_than_a_crop_is_mirrored_and_what_has_no_batchnorm_is_left_alone() -> None:
    assert with_statistics_of(noise(1, (10, 30, 21)), small_unet(), CPU) is not None
    assert with_statistics_of(noise(1, (10, 30, 21)), build_unet(replace(HOST, channels=(4, 4, 4))), CPU) is None


def test_statistics_that_are_not_finite_are_not_taken() -> None:
    network = small_unet()
    with torch.no_grad():
        network.stem.weight.fill_(1e30)
    assert with_statistics_of(noise(2, (16, 32, 32)), network, CPU, mixed_precision=False) is None


def test_where_half_precision_overflows_statistics_are_those_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    network, volume = small_unet(), 1e4 * noise(2, (16, 32, 32))
    with torch.no_grad():
        network.stem.weight *= 100
    expected = with_statistics_of(volume, network, CPU, mixed_precision=False)
    monkeypatch.setattr(own_statistics, "autocast_dtype", lambda device: torch.float16)
    found = with_statistics_of(volume, network, CPU)
    assert expected is not None
    assert found is not None
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_without_memory_for_them_the_network_stays_as_it_is(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forward(self: HalfUNet, x: Tensor) -> Tensor:
        raise error

    monkeypatch.setattr(HalfUNet, "forward", forward)
    assert with_statistics_of(noise(3, (16, 32, 32)), small_unet(), CPU) is None
    assert caplog.messages == [
        "not enough memory for the statistics of a tomogram; it is seen by those of the training"
    ]


def test_another_fault_is_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: HalfUNet, x: Tensor) -> Tensor:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(HalfUNet, "forward", forward)
    with pytest.raises(RuntimeError, match="device-side"):
        with_statistics_of(noise(3, (16, 32, 32)), small_unet(), CPU)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((184, 630, 630), ((0, 184), (192, 432), (128, 480))),
        ((184, 320, 320), ((0, 184), (32, 272), (0, 320))),
        ((50, 272, 384), ((0, 50), (0, 272), (0, 384))),
        ((50, 273, 385), ((0, 50), (16, 256), (16, 368))),
    ],
)
def test_the_middle_is_one_window_from_where_pooling_begins(
    shape: tuple[int, int, int], expected: tuple[tuple[int, int], ...]
) -> None:
    assert middle(shape, 16) == tuple(slice(first, last) for first, last in expected)


# --- the choice ---


class Dark(nn.Module):
    """Takes what is more than 4.4 spreads dark for a ribosome, by the mean and spread that its BatchNorm knows."""

    stride = multiple = 2

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(1, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, 1, z, y, x)` to logits at half the resolution."""
        small = functional.avg_pool3d(self.norm(x), 2)
        logits = torch.full((len(x), 1 + len(PARTICLES), *small.shape[2:]), -20.0)
        logits[:, 0] = 0
        logits[:, 1 + RIBOSOME] = 4 * (-small[:, 0] - 4.4)
        return logits


def specimen(noisy: float, shape: tuple[int, int, int] = (40, 120, 120)) -> NDArray[np.float32]:
    """Balls of two voxels' radius in noise of a spread that is a share of their depth; mean 0, spread 1."""
    volume = noisy * noise(4, shape)
    index = np.indices((5, 5, 5)) - 2
    ball = (index**2).sum(axis=0) <= 4
    for z, y, x in itertools.product(*(range(8, edge - 8, 12) for edge in shape)):
        volume[z : z + 5, y : y + 5, x : x + 5][ball] -= 1
    volume = (volume - volume.mean()) / volume.std()
    return np.asarray(volume, dtype=np.float32)


def picker(calibration: Calibration | None = SURE) -> UNetPicker:
    settings = UNetSettings(channels=(4, 6))
    model = UNetModel(
        network=Dark(), settings=settings, thresholds=(0.5,) * len(PARTICLES), provenance={}, calibration=calibration
    )
    return UNetPicker(model=model)


def look(volume: NDArray[np.float32], own_statistics: str, using: UNetPicker | None = None) -> ScoreGrid:
    settings = PickSettings(own_statistics=own_statistics, segment=SegmentSettings(mixed_precision=False))
    return (using or picker()).look({(): volume}, settings, CPU)


def test_a_tomogram_in_which_more_is_found_by_its_own_statistics_is_seen_by_them() -> None:
    faint = 0.4 * specimen(0.05)
    never, auto, always = (look(faint, how).score for how in ("never", "auto", "always"))
    assert never.max() < 0.5 < always.max()
    np.testing.assert_array_equal(auto, always)
    small = with_statistics_of(faint, Dark(), CPU)
    assert small is not None
    expected = segment(small, faint, settings=SegmentSettings(mixed_precision=False), device=CPU)
    np.testing.assert_array_equal(always, expected.score)


def test_a_tomogram_in_which_less_is_found_so_is_seen_by_those_of_the_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    strong = 1.3 * specimen(0.2)
    with caplog.at_level(logging.DEBUG, logger=pickers.__name__):
        never, auto, always = (look(strong, how).score for how in ("never", "auto", "always"))
    np.testing.assert_array_equal(auto, never)
    assert always.max() < never.max()
    (message,) = caplog.messages
    assert float(message.split()[-1]) < LEAST_GAIN


def test_a_model_without_calibration_cannot_tell_and_stays_as_it_is() -> None:
    faint = 0.4 * specimen(0.05)
    np.testing.assert_array_equal(look(faint, "auto", picker(None)).score, look(faint, "never").score)
    np.testing.assert_array_equal(look(faint, "always", picker(None)).score, look(faint, "always").score)


def test_a_network_without_statistics_says_so_where_it_must_go_by_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pickers, "with_statistics_of", lambda *arguments, **options: None)
    faint = 0.4 * specimen(0.05)
    never, auto = look(faint, "never").score, look(faint, "auto").score
    assert not caplog.messages
    np.testing.assert_array_equal(look(faint, "always").score, never)
    np.testing.assert_array_equal(auto, never)
    (message,) = caplog.messages
    assert message.startswith("the U-Net cannot go by a tomogram's own statistics")


def test_a_large_tomogram_is_tried_in_its_middle_and_then_seen_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def noted(network: nn.Module, volume: NDArray[np.float32], **how: object) -> ScoreGrid:
        seen.append(volume.shape)
        return segment(network, volume, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(pickers, "segment", noted)
    look(0.4 * specimen(0.05, (40, 300, 120)), "auto")
    assert seen == [(40, 300, 120), (40, 240, 120), (40, 300, 120)]


def test_a_part_of_a_grid_is_the_grid_of_that_part() -> None:
    volume = noise(6, (20, 48, 64))
    whole = SegmentSettings(windows=WindowSettings(window_zyx=(20, 48, 64)), mixed_precision=False)
    grid = segment(Dark(), volume, settings=whole, device=CPU)
    where = (slice(0, 20), slice(16, 33), slice(8, 64))
    part = grid.part(where)
    assert grid.shape_zyx == (20, 48, 64)
    assert part.shape_zyx == (20, 18, 56)
    again = segment(Dark(), volume[where], settings=whole, device=CPU)
    np.testing.assert_allclose(part.score[:, :, :8], again.score[:, :, :8], atol=1e-6)  # beyond, 33 is mirrored


@pytest.mark.parametrize(("gain", "taken"), [(LEAST_GAIN_TOLD - 0.01, False), (LEAST_GAIN_TOLD + 0.01, True)])
def test_what_is_gained_must_be_eight_hundredths(monkeypatch: pytest.MonkeyPatch, gain: float, taken: bool) -> None:
    promised = iter((0.5 + gain, 0.5))  # by its own statistics, and by those of the training
    monkeypatch.setattr(UNetPicker, "_promise", lambda *arguments: next(promised))
    volume = 0.4 * specimen(0.05)
    np.testing.assert_array_equal(look(volume, "auto").score, look(volume, "always" if taken else "never").score)


def test_the_middle_decides_by_itself_and_not_what_is_about_it() -> None:
    whole = specimen(0.05, (40, 400, 480))
    part = middle(whole.shape, 2)
    nothing = 0.4 * noise(9, whole.shape)
    for inside, decides in ((True, True), (False, False)):
        volume = nothing.copy() if inside else 0.4 * whole
        volume[part] = (0.4 * whole if inside else nothing)[part]
        volume[0, 0, 0] = -30 if inside else 0  # its scale
        same = np.array_equal(look(volume, "auto").score, look(volume, "always").score)
        assert same == decides


def test_of_what_is_promised_sure_candidates_count_for_more_than_doubtful_ones() -> None:
    using = picker()
    grids = {}
    for probability in (0.5, 0.95):
        score = np.zeros((len(PARTICLES), 20, 60, 60), dtype=np.float32)
        score[RIBOSOME, 10, 10::20, 10::20] = probability
        grids[probability] = using._promise(ScoreGrid(score=score, stride=2), PickSettings())
    assert 1.5 < grids[0.95] / grids[0.5] < 4  # 1.9 by the fourth power, 1.2 by the second, 24 by the eighth


def test_the_same_part_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    genuine = UNetPicker._promise

    def noted(self: UNetPicker, grid: ScoreGrid, settings: PickSettings) -> float:
        compared.append(grid.score.shape[1:])
        return genuine(self, grid, settings)

    monkeypatch.setattr(UNetPicker, "_promise", noted)
    shape = (40, 400, 480)
    look(noise(10, shape), "auto")
    edges = tuple((part.stop - part.start) // 2 for part in middle(shape, 2))
    assert compared == [edges, edges] != [tuple(edge // 2 for edge in shape)] * 2

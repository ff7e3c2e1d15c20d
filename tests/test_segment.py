import logging

import numpy as np
import pytest
import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking import devices
from kaggle_cryoet.picking import segment as module
from kaggle_cryoet.picking.segment import FLIPS, SegmentSettings, segment
from kaggle_cryoet.picking.windows import WindowSettings

CPU = torch.device("cpu")
GAIN = torch.linspace(-1.5, 2.0, 7)
BIAS = torch.linspace(0.3, -0.4, 7)


class Blockwise(torch.nn.Module):
    """Class c at a block of stride^3 voxels of mean m has the logit `GAIN[c] * m + BIAS[c]`, whatever is around it."""

    def __init__(self, stride=1, multiple=4):
        super().__init__()
        self.stride, self.multiple = stride, multiple

    def forward(self, window):
        assert window.shape[:2] == (1, 1)
        assert all(edge % self.multiple == 0 for edge in window.shape[2:])
        mean = torch.nn.functional.avg_pool3d(window.float(), self.stride)
        return mean * GAIN[:, None, None, None] + BIAS[:, None, None, None]


class Convolution(torch.nn.Module):
    """A convolution that knows up from down and left from right."""

    stride, multiple, channels_last = 2, 4, True

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv3d(1, 7, 4, stride=2, padding=1)
        weight = np.random.default_rng(0).normal(0, 0.3, self.convolution.weight.shape)
        self.convolution.weight.data = torch.from_numpy(weight.astype(np.float32))
        self.convolution.bias.data.zero_()

    def forward(self, window):
        self.logits_dtype = (logits := self.convolution(window)).dtype
        return logits


def volume_of(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def exact(window_zyx=(16, 20, 24), *, overlap=0.25, **others):
    windows = WindowSettings(window_zyx=window_zyx, overlap=overlap)
    return SegmentSettings(windows=windows, mixed_precision=False, **others)


def blockwise_scores(volume, stride):
    """What `Blockwise` must give for the whole volume, by NumPy."""
    padded = np.pad(volume, [(0, -size % stride) for size in volume.shape], mode="reflect").astype(np.float64)
    z, y, x = (size // stride for size in padded.shape)
    mean = padded.reshape(z, stride, y, stride, x, stride).mean(axis=(1, 3, 5))
    logits = GAIN.double().numpy()[:, None, None, None] * mean + BIAS.double().numpy()[:, None, None, None]
    exponential = np.exp(logits - logits.max(axis=0))
    return (exponential / exponential.sum(axis=0))[1:]  # without the background


@pytest.mark.parametrize(("stride", "multiple"), [(1, 1), (1, 4), (2, 4), (2, 8), (4, 4)])
@pytest.mark.parametrize("shape", [(23, 40, 51), (16, 20, 24), (1, 2, 3), (5, 61, 9)])
def test_blended_scores_are_those_of_the_network_applied_directly(shape, stride, multiple):
    volume = volume_of(shape)
    grid = segment(Blockwise(stride, multiple), volume, settings=exact(), device=CPU)
    assert grid.stride == stride
    assert grid.score.dtype == np.float32
    assert grid.score.shape == (6, *(-(-size // stride) for size in shape))
    np.testing.assert_allclose(grid.score, blockwise_scores(volume, stride), atol=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("window_zyx", [(4, 8, 12), (100, 8, 100), (100, 100, 100)])
def test_scores_do_not_depend_on_the_windows(window_zyx, overlap):
    volume = volume_of((13, 22, 31))
    grid = segment(Blockwise(2, 4), volume, settings=exact(window_zyx, overlap=overlap), device=CPU)
    np.testing.assert_allclose(grid.score, blockwise_scores(volume, 2), atol=1e-6)


def test_a_network_that_sees_neighbours_differs_only_where_windows_end():
    volume = volume_of((16, 32, 48))
    whole = segment(Convolution(), volume, settings=exact((16, 32, 48)), device=CPU).score
    parts = segment(Convolution(), volume, settings=exact((16, 32, 28), overlap=0.25), device=CPU).score
    assert np.abs(parts - whole).max() < 0.02  # window edges weigh little
    seen_by_one_window = np.r_[0:10, 14:24]
    np.testing.assert_allclose(parts[..., seen_by_one_window], whole[..., seen_by_one_window], atol=1e-6)


@pytest.mark.parametrize("flips", [2, 4, 8])
def test_scores_are_averaged_over_flips_that_are_turned_back(flips):
    volume = volume_of((12, 16, 20))
    settings = exact((12, 16, 20))
    expected = np.mean(
        [
            np.flip(segment(Convolution(), np.flip(volume, axes).copy(), settings=settings, device=CPU).score, axes)
            for axes in FLIPS[:flips]
        ],
        axis=0,
    )
    grid = segment(Convolution(), volume, settings=exact((12, 16, 20), flips=flips), device=CPU)
    np.testing.assert_allclose(grid.score, expected, atol=1e-6)


def test_the_first_four_flips_are_half_turns_and_all_eight_are_different():
    assert all(len(axes) in (0, 2) for axes in FLIPS[:4])
    assert len({frozenset(axes) for axes in FLIPS}) == 8


def test_a_grid_too_large_for_float32_is_kept_in_float16(monkeypatch):
    volume = volume_of((23, 40, 51))
    monkeypatch.setattr(module, "FLOAT32_SCORES", 6 * 23 * 40 * 51 - 1)
    grid = segment(Blockwise(), volume, settings=exact(overlap=0.5), device=CPU)
    assert grid.score.dtype == np.float16
    np.testing.assert_allclose(grid.score, blockwise_scores(volume, 1), atol=2e-3)


@pytest.mark.parametrize(
    ("native", "mixed_precision", "dtype"),
    [(True, True, torch.bfloat16), (False, True, torch.float32), (True, False, torch.float32)],
)
def test_bfloat16_is_used_where_the_cpu_has_it_and_mixed_precision_is_wanted(
    monkeypatch, native, mixed_precision, dtype
):
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: native)
    volume = volume_of((12, 16, 20))
    network = Convolution()
    grid = segment(network, volume, settings=SegmentSettings(mixed_precision=mixed_precision), device=CPU)
    assert network.logits_dtype == dtype
    assert grid.score.dtype == np.float32
    expected = segment(network, volume, settings=exact((12, 16, 20)), device=CPU).score
    np.testing.assert_allclose(grid.score, expected, atol=0.02)


def test_cuda_computes_in_float16():
    assert devices.autocast_dtype(torch.device("cuda")) == torch.float16


class OverflowingInBfloat16(Blockwise):
    def forward(self, window):
        logits = super().forward(window)
        return logits + torch.inf if torch.is_autocast_enabled("cpu") else logits


def test_a_network_that_overflows_in_half_precision_goes_on_in_float32(monkeypatch, caplog):
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: True)
    volume = volume_of((23, 40, 51))
    windows = exact().windows
    with caplog.at_level(logging.WARNING):
        grid = segment(OverflowingInBfloat16(), volume, settings=SegmentSettings(windows=windows), device=CPU)
    np.testing.assert_allclose(grid.score, blockwise_scores(volume, 1), atol=1e-6)
    assert caplog.text.count("overflows in torch.bfloat16") == 1


def test_logits_that_are_never_finite_are_an_error():
    network = Blockwise()
    volume = volume_of((8, 9, 10))
    volume[3, 4, 5] = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        segment(network, volume, settings=exact(), device=CPU)


class Hungry(Blockwise):
    """Has memory for windows of so many voxels only."""

    def __init__(self, voxels, error):
        super().__init__(2, 4)
        self.voxels, self.error, self.windows = voxels, error, []

    def forward(self, window):
        self.windows.append(tuple(window.shape[2:]))
        if window.numel() > self.voxels:
            raise self.error
        return super().forward(window)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError(),
    ],
)
def test_windows_are_halved_along_their_longest_edge_until_they_fit_into_memory(error, caplog):
    volume = volume_of((23, 40, 51))
    network = Hungry(24 * 20 * 28, error)
    with caplog.at_level(logging.WARNING):
        grid = segment(network, volume, settings=exact((64, 64, 64), minimum_window=8), device=CPU)
    assert network.windows[:3] == [(24, 40, 52), (24, 40, 28), (24, 20, 28)]
    assert set(network.windows[2:]) == {(24, 20, 28)}
    assert caplog.text.count("out of memory") == 2
    np.testing.assert_allclose(grid.score, blockwise_scores(volume, 2), atol=1e-6)


def test_if_the_smallest_windows_do_not_fit_the_error_is_raised():
    network = Hungry(0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        segment(network, volume_of((23, 40, 51)), settings=exact((32, 32, 32), minimum_window=16), device=CPU)
    assert network.windows[-1] == (12, 16, 16)


def test_other_errors_of_the_network_are_raised_at_once():
    network = Hungry(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        segment(network, volume_of((23, 40, 51)), settings=exact(), device=CPU)
    assert len(network.windows) == 1


def test_the_network_is_evaluated_without_gradients_and_not_in_training_mode():
    class Modest(Blockwise):
        def forward(self, window):
            assert not self.training
            assert torch.is_inference_mode_enabled()
            return super().forward(window)

    volume = volume_of((8, 9, 10))
    before = volume.copy()
    grid = segment(Modest().train(), volume, settings=exact(), device=CPU)
    assert isinstance(grid.score, np.ndarray)
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize(("stride", "multiple"), [(None, 4), (2, None), (2.0, 4), (2, 3), (0, 4)])
def test_a_network_without_a_proper_stride_and_multiple_is_an_input_error(stride, multiple):
    with pytest.raises(InputError, match="stride and multiple"):
        segment(Blockwise(stride, multiple), volume_of((8, 9, 10)), settings=exact(), device=CPU)


def test_a_network_with_another_number_of_classes_or_another_stride_is_an_input_error():
    class OneClassLess(Blockwise):
        def forward(self, window):
            return super().forward(window)[:, 1:]

    for wrong in (OneClassLess(4, 4), Blockwise(2, 4)):
        wrong_output = torch.nn.Sequential(wrong)
        wrong_output.stride, wrong_output.multiple = 4, 4
        with pytest.raises(InputError, match="expected"):
            segment(wrong_output, volume_of((8, 9, 10)), settings=exact(), device=CPU)


@pytest.mark.parametrize("settings", [{"flips": 3}, {"flips": 0}, {"minimum_window": 0}])
def test_impossible_settings_are_an_input_error(settings):
    with pytest.raises(InputError):
        SegmentSettings(**settings)

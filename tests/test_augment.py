import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking.equalise import radial_amplitude
from kaggle_cryoet.training.augment import (
    SMOOTH_NOISE_GAIN,
    AugmentSettings,
    augment,
    binomial_filter,
    mix_pairs,
    scramble,
)

SHAPE = (10, 14, 18)
NOTHING = {
    "log_scale": 0.0,
    "offset": 0.0,
    "sharpening": 0.0,
    "middle": 0.0,
    "noise": 0.0,
    "least_gamma": 1.0,
    "scrambling": 0.0,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(count=4, seed=1, shape=SHAPE):
    return torch.randn(count, 1, *shape, generator=generator(seed))


def scipy_binomial(x, kernel=(0.25, 0.5, 0.25)):
    for axis in range(3):
        x = ndimage.correlate1d(x, kernel, axis=axis, mode="nearest")
    return x


def test_the_binomial_filter_is_scipys():
    x = crops()
    filtered = binomial_filter(x.clone())
    for item in range(len(x)):
        np.testing.assert_allclose(filtered[item, 0], scipy_binomial(x[item, 0].numpy()), atol=1e-6)


def test_a_wider_filter_takes_voxels_two_apart():
    x = crops()
    filtered = binomial_filter(x.clone(), step=2)
    for item in range(len(x)):
        expected = scipy_binomial(x[item, 0].numpy(), (0.25, 0, 0.5, 0, 0.25))
        np.testing.assert_allclose(filtered[item, 0], expected, atol=1e-6)


def test_filtered_white_noise_is_as_strong_as_before_once_it_has_its_gain():
    noise = crops(1, shape=(48, 52, 56))
    smooth = SMOOTH_NOISE_GAIN * binomial_filter(noise)[..., 2:-2, 2:-2, 2:-2]
    assert float(smooth.std()) == pytest.approx(1.0, rel=0.02)


def test_with_empty_ranges_crops_stay_as_they_are():
    x = crops()
    torch.testing.assert_close(augment(x.clone(), AugmentSettings(**NOTHING), generator()), x)


def test_crops_are_changed_alike_by_generators_alike_and_each_in_its_own_way():
    x = crops(1).expand(4, -1, -1, -1, -1)
    first, second = (augment(x.clone(), AugmentSettings(), generator()) for _ in range(2))
    assert torch.equal(first, second)
    for one, other in itertools.combinations(first, 2):
        assert (one - other).abs().mean() > 0.02
    assert not torch.equal(first, augment(x.clone(), AugmentSettings(), generator(1)))


def test_the_crops_that_are_given_are_not_changed():
    x = crops()
    before = x.clone()
    augment(x, AugmentSettings(), generator())
    assert torch.equal(x, before)


def spread(x):
    return float((x - x.median()).abs().median())


def blurred_in_a_wedge(seed=1, edge=48):
    """A crop whose amplitude falls with the frequency, and is nothing beyond 45 degrees from xy."""
    transform = np.fft.fftn(crops(1, seed, (edge, edge, edge))[0, 0].numpy())
    z, y, x = np.meshgrid(*[np.fft.fftfreq(edge)] * 3, indexing="ij")
    transform *= np.exp(-20 * (z**2 + y**2 + x**2)) * (np.abs(z) <= np.abs(x))
    return torch.from_numpy(np.fft.ifftn(transform).real.astype(np.float32))[None, None]


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_scrambled_crops_keep_their_spectrum_and_wedge_and_lose_signal_by_the_ratio(ratio):
    x = blurred_in_a_wedge()
    settings = AugmentSettings(scrambling=1.0, least_scrambling=ratio, most_scrambling=ratio)
    found = scramble(x, settings, generator())[0, 0]
    assert np.corrcoef(found.flatten(), x.flatten())[0, 1] == pytest.approx(1 / np.sqrt(1 + ratio**2), abs=0.05)
    assert spread(found) == pytest.approx(spread(x), rel=0.02)
    before, after = radial_amplitude(x[0, 0].numpy()), radial_amplitude(found.numpy())
    shells = np.arange(8, 40)
    np.testing.assert_allclose(after[shells] / before[shells], float(found.std() / x.std()), rtol=0.15)
    power = np.abs(np.fft.fftn(found.numpy())) ** 2
    z, _, x_frequency = np.meshgrid(*[np.fft.fftfreq(len(found))] * 3, indexing="ij")
    assert power[np.abs(z) > np.abs(x_frequency)].sum() < 1e-6 * power.sum()


def test_crops_that_are_masked_for_the_most_part_are_not_scrambled():
    x = torch.zeros(2, 1, 16, 16, 16)
    x[1, 0, :4] = torch.randn(4, 16, 16)
    torch.testing.assert_close(scramble(x, AugmentSettings(scrambling=1.0), generator()), x)


def test_the_ratio_of_scrambling_goes_from_one_end_of_the_spectrum_to_the_other():
    x = crops(1, shape=(48, 48, 48))
    z, y, x_frequency = np.meshgrid(*[np.fft.fftfreq(48)] * 3, indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x_frequency**2)
    settings = AugmentSettings(scrambling=1.0, least_scrambling=0.05, most_scrambling=20.0)
    kept = []
    for seed in range(12):
        pair = [np.fft.fftn(item.numpy()) for item in (x[0, 0], scramble(x, settings, generator(seed))[0, 0])]
        shells = [(radius > low) & (radius < low + 0.05) for low in (0.03, 0.45)]
        norms = [np.prod([np.linalg.norm(transform[shell]) for transform in pair]) for shell in shells]
        products = [(pair[0] * pair[1].conj()).real[shell].sum() for shell in shells]
        kept.append(np.divide(products, norms))
    low, high = np.transpose(kept)
    assert min(low.min(), high.min()) < 0.3
    assert max(low.max(), high.max()) > 0.95
    assert (low > high + 0.3).any()
    assert (high > low + 0.3).any()


def test_about_the_share_that_is_asked_for_is_scrambled_and_nothing_is_changed_in_place():
    x = crops(200, shape=(8, 8, 8))
    before = x.clone()
    found = scramble(x, AugmentSettings(scrambling=0.3), generator())
    assert torch.equal(x, before)
    changed = (found != x).flatten(1).any(dim=1).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("ranges", [{"log_scale": 0.5}, {"offset": 0.5}, {"log_scale": 0.3, "offset": 0.2}])
def test_contrast_and_offset_are_a_straight_line_within_their_ranges(ranges):
    x = crops(40)
    changed = augment(x, AugmentSettings(**NOTHING | ranges), generator())
    for before, after in zip(x.flatten(1).numpy(), changed.flatten(1).numpy(), strict=True):
        slope, intercept = np.polyfit(before, after, 1)
        np.testing.assert_allclose(after, slope * before + intercept, atol=1e-4)
        assert abs(np.log(slope)) <= ranges.get("log_scale", 0) + 1e-4
        assert abs(intercept) <= ranges.get("offset", 0) + 1e-4


def test_sharpening_adds_or_takes_away_what_the_filter_removes():
    x = crops(20)
    changed = augment(x, AugmentSettings(**NOTHING | {"sharpening": 0.6}), generator())
    shares = []
    for before, after in zip(x[:, 0].numpy(), changed[:, 0].numpy(), strict=True):
        fine = before - scipy_binomial(before)
        shares.append(((after - before) * fine).sum() / (fine**2).sum())
        np.testing.assert_allclose(after, before + shares[-1] * fine, atol=1e-4)
    assert min(shares) < -0.2
    assert max(shares) > 0.2
    assert max(map(abs, shares)) <= 0.6 + 1e-4


def test_the_middle_of_the_spectrum_is_what_lies_between_two_filters():
    x = crops(20)
    changed = augment(x, AugmentSettings(**NOTHING | {"middle": 0.5}), generator())
    shares = []
    for before, after in zip(x[:, 0].numpy(), changed[:, 0].numpy(), strict=True):
        smooth = scipy_binomial(before)
        middle = smooth - scipy_binomial(smooth, (0.25, 0, 0.5, 0, 0.25))
        shares.append(((after - before) * middle).sum() / (middle**2).sum())
        np.testing.assert_allclose(after, before + shares[-1] * middle, atol=1e-4)
    assert min(shares) < -0.2
    assert max(shares) > 0.2
    assert max(map(abs, shares)) <= 0.5 + 1e-4


def test_mixed_crops_are_blends_of_two_and_their_targets_are_blended_alike():
    x = torch.eye(40)[:, None, None, None] + torch.zeros(40, 1, 2, 3, 40)
    target = torch.eye(40)[:, :, None, None, None] + torch.zeros(40, 40, 1, 2, 3)
    mixed, targets = mix_pairs(x, target, AugmentSettings(mixup=0.5), generator())
    torch.testing.assert_close(mixed[:, 0, 0, 0], targets[:, :, 0, 0, 0])
    share = mixed[:, 0, 0, 0]
    torch.testing.assert_close(share.sum(dim=1), torch.ones(40))
    own = share.diagonal()
    assert float(own.min()) > 0.5
    assert 10 < int((own < 1).sum()) < 30
    assert int((share > 0).sum(dim=1).max()) == 2
    every, _ = mix_pairs(x, target, AugmentSettings(mixup=1.0), generator())
    assert float(every[:, 0, 0, 0].diagonal().max()) < 1  # none with itself
    assert mix_pairs(x, target, AugmentSettings(), generator()) == (x, target)


def test_gamma_keeps_signs_and_bends_by_a_power():
    x = crops(20)
    changed = augment(x, AugmentSettings(**NOTHING | {"least_gamma": 0.8}), generator())
    powers = []
    for before, after in zip(x.flatten(1).numpy(), changed.flatten(1).numpy(), strict=True):
        np.testing.assert_array_equal(np.sign(after), np.sign(before))
        large = np.abs(np.abs(before) - 1) > 0.2
        power = np.log(np.abs(after[large])) / np.log(np.abs(before[large]))
        np.testing.assert_allclose(power, np.median(power), rtol=1e-3)
        powers.append(np.median(power))
    assert 0.8 - 1e-4 <= min(powers) < 0.95
    assert 1.05 < max(powers) <= 1.25 + 1e-4


def test_noise_is_no_stronger_than_asked_and_smooth_in_about_half_of_the_crops():
    x = torch.zeros(40, 1, 16, 20, 24)
    changed = augment(x, AugmentSettings(**NOTHING | {"noise": 0.4}), generator())
    strength = changed.flatten(1).std(dim=1)
    assert float(strength.max()) < 0.42
    assert float(strength.min()) < 0.1
    neighbours = (changed[..., 1:] * changed[..., :-1]).flatten(1).mean(dim=1) / strength**2
    smooth = neighbours > 0.3
    assert 10 < int(smooth.sum()) < 30
    # neighbours under (1, 2, 1) / 4 share 4 / 6 of their variance
    np.testing.assert_allclose(neighbours[smooth], 4 / 6, atol=0.08)
    np.testing.assert_allclose(neighbours[~smooth], 0, atol=0.06)


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_what_is_changed_commutes_with_flips(axis):
    x = crops()
    settings = AugmentSettings(noise=0.0, scrambling=0.0)  # chance does not know of flips
    torch.testing.assert_close(
        augment(x.flip(axis), settings, generator()), augment(x, settings, generator()).flip(axis), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"noise": -0.1},
        {"middle": -0.1},
        {"mixup": 1.5},
        {"least_gamma": 0.0},
        {"least_gamma": 1.2},
        {"offset": -1.0},
        {"scrambling": 1.5},
        {"least_scrambling": 0.0},
        {"least_scrambling": 3.0},
    ],
)
def test_impossible_ranges_are_an_input_error(settings):
    with pytest.raises(InputError):
        AugmentSettings(**settings)

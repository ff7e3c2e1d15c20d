"""Figures that describe slices of tomograms, by which simulated ones are held against real ones.

Values are given in spreads, 1.4826 times the median absolute deviation of a slice: its noise, whatever particles it
holds. Particles are dark, that is negative.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.001, 0.01, 0.05, 0.16, 0.84, 0.95, 0.99, 0.999)
SPOT_LEVEL = -4.0
"""In spreads; what is darker is no noise."""
SPOT_PIXELS = (1, 3, 8, 20, 60)
"""Bounds of the sizes by which dark spots are counted."""
DOT_DEPTHS = (2.5, 3.5, 5.0, 6.9)
"""Bounds of the depths by which dark dots are told apart, in spreads; real slices of 8 bits are clipped at 7.06."""
DOT_DISTANCE = 7
"""Pixels along either axis within which nothing is darker than a dot."""
DOT_LAGS = (1, 2, 3)
"""Pixels beside a dot at which it is looked at."""
LEAST_DOTS = 5
"""Fewer say nothing of how wide dots are."""
POWER_BOUNDS = (0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
"""In cycles per voxel."""
AXIAL_BOUNDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
"""In cycles per voxel, along an axis; what is slower has no direction in a patch."""
AXIAL_WIDTH = 0.05
"""Frequencies across the axis up to which power counts as along it."""
WEDGE_BOUNDS_DEGREE = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 75.0, 90.0)
WEDGE_BAND = (0.1, 0.3)
"""Frequencies in cycles per voxel over which the wedge is seen."""
PATCH_PIXELS = 32
PROFILE_STEP_VOXELS = 2.0


def spread(image: NDArray[np.floating]) -> float:
    """1.4826 times the median absolute deviation."""
    return float(1.4826 * np.median(np.abs(image - np.median(image))))


def in_spreads(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """An image with median 0 and spread 1."""
    return np.asarray((image - np.median(image)) / spread(image), dtype=np.float64)


def windowed(image: NDArray[np.floating], darkest: float, brightest: float, levels: int = 256) -> NDArray[np.float64]:
    """An image in spreads as a display shows it: clipped to a window, and rounded to so many grey levels."""
    step = (brightest - darkest) / (levels - 1)
    level = np.round((np.clip(in_spreads(image), darkest, brightest) - darkest) / step)
    return np.asarray(darkest + level * step)


def intensities(images: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Spread, skew and quantiles of all pixels of images in spreads."""
    values = np.concatenate([image.ravel() for image in images])
    deviation = values - values.mean()
    figures = {
        "standard deviation": float(values.std()),
        "skew": float((deviation**3).mean() / values.std() ** 3),
    }
    figures |= {f"quantile {100 * share:g} %": float(np.quantile(values, share)) for share in QUANTILES}
    return figures


def dark_spots(images: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Connected spots below `SPOT_LEVEL` per 10⁴ pixels of images in spreads, by their size in pixels."""
    from scipy.ndimage import label

    sizes = np.concatenate([np.bincount(label(image < SPOT_LEVEL)[0].ravel())[1:] for image in images])
    area = sum(image.size for image in images) / 1e4
    bounds = [*SPOT_PIXELS, np.inf]
    return {
        f"spots of {low} to {high - 1:.0f} px" if np.isfinite(high) else f"spots of {low} px and more": float(
            ((sizes >= low) & (sizes < high)).sum() / area
        )
        for low, high in pairwise(bounds)
    }


def dark_dots(images: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Number per 10⁴ pixels of solitary dark dots, by their depth, and what is left of them beside their middle.

    A dot is a pixel than which none is darker within `DOT_DISTANCE`. What is left is the median over the dots of the
    mean of both sides, over the depth in the middle: how sharp small proteins and noise are.
    """
    from scipy.ndimage import minimum_filter

    figures: dict[str, float] = {}
    area = sum(image.size for image in images) / 1e4
    reach = max(DOT_LAGS)
    for least, most in pairwise(DOT_DEPTHS):
        name = f"of {least:g} to {most:g}"
        patches = []
        for image in images:
            lowest = minimum_filter(image, 2 * DOT_DISTANCE + 1, mode="constant", cval=-np.inf)  # none at the border
            for y, x in np.argwhere((image == lowest) & (image <= -least) & (image > -most)):
                patches.append(image[y - reach : y + reach + 1, x - reach : x + reach + 1] / image[y, x])
        figures[f"dots {name}"] = len(patches) / area
        if len(patches) < LEAST_DOTS:
            continue
        dot = np.median(patches, axis=0)
        for axis, line in (("y", dot[:, reach]), ("x", dot[reach])):
            for lag in DOT_LAGS:
                figures[f"left {name} at {lag} along {axis}"] = float(line[[reach - lag, reach + lag]].mean())
    return figures


def _power(image: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Power of an image under a Hann window, and the frequency along its two axes, in cycles per pixel."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    centred = image - (image * window).sum() / window.sum()
    power = np.abs(np.fft.fft2(centred * window)) ** 2 / (window**2).sum()
    rows, columns = (np.asarray(np.fft.fftfreq(length), dtype=np.float64) for length in image.shape)
    return np.asarray(power, dtype=np.float64), rows[:, None], columns[None]


def radial_power(images: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Mean power between `POWER_BOUNDS`, over that below 0.3 cycles per pixel, in decibel."""
    total: dict[tuple[float, float], list[float]] = {}
    for image in images:
        power, rows, columns = _power(image)
        frequency = np.hypot(rows, columns)
        reference = power[frequency < 0.3].mean()
        for low, high in pairwise(POWER_BOUNDS):
            ring = (frequency >= low) & (frequency < high) & (frequency > 0)
            if ring.any():
                total.setdefault((low, high), []).append(power[ring].mean() / reference)
    return {f"{low:g} to {high:g}": 10 * float(np.log10(np.mean(share))) for (low, high), share in total.items()}


def axial_power(images: Sequence[NDArray[np.float64]], axis: int) -> dict[str, float]:
    """Mean power of images of one shape along an axis, over that below 0.3 cycles per pixel, in decibel."""
    power, rows, columns = np.mean([_power(image)[0] for image in images], axis=0), *_power(images[0])[1:]
    along, across = (np.abs(rows), np.abs(columns)) if axis == 0 else (np.abs(columns), np.abs(rows))
    frequency = np.hypot(rows, columns)
    reference = power[frequency < 0.3].mean()
    strip = across <= AXIAL_WIDTH
    return {
        f"{low:g} to {high:g}": 10 * float(np.log10(power[strip & (along >= low) & (along < high)].mean() / reference))
        for low, high in pairwise(AXIAL_BOUNDS)
    }


def background_patches(image: NDArray[np.float64], edge: int = PATCH_PIXELS) -> list[NDArray[np.float64]]:
    """Square patches of an image in spreads that hold nothing darker than `SPOT_LEVEL`."""
    height, width = image.shape
    patches = [
        image[y : y + edge, x : x + edge]
        for y in range(0, height - edge + 1, edge // 2)
        for x in range(0, width - edge + 1, edge // 2)
    ]
    return [patch for patch in patches if patch.min() > SPOT_LEVEL]


def wedge(images: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Power of `(z, x)` images by the angle to the x axis in Fourier space, in decibel over that within 40 degrees."""
    power, rows, columns = np.mean([_power(image)[0] for image in images], axis=0), *_power(images[0])[1:]
    angle = np.degrees(np.arctan2(np.abs(rows), np.abs(columns) + 1e-12))
    frequency = np.hypot(rows, columns)
    band = (frequency >= WEDGE_BAND[0]) & (frequency < WEDGE_BAND[1])
    inside = power[band & (angle < 40)].mean()
    return {
        f"{low:g} to {high:g} degrees": 10
        * float(np.log10(power[band & (angle >= low) & (angle < high)].mean() / inside))
        for low, high in pairwise(WEDGE_BOUNDS_DEGREE)
    }


def autocorrelation(images: Sequence[NDArray[np.float64]], axis: int, lags: Sequence[int]) -> dict[str, float]:
    """Correlation of background pixels some way apart along an axis; particles and their surroundings are left out."""
    from scipy.ndimage import binary_dilation

    products: dict[int, list[NDArray[np.float64]]] = {lag: [] for lag in (0, *lags)}
    for image in images:
        background = ~binary_dilation(image < 0.75 * SPOT_LEVEL, iterations=3)
        values, mask = np.moveaxis(image - image[background].mean(), axis, 0), np.moveaxis(background, axis, 0)
        for lag, found in products.items():
            end = len(values) - lag
            found.append((values[:end] * values[lag:])[mask[:end] & mask[lag:]])
    variance = np.concatenate(products[0]).mean()
    return {f"lag {lag}": float(np.concatenate(products[lag]).mean() / variance) for lag in lags}


def particle_figures(
    image: NDArray[np.float64], centre_yx: NDArray[np.float64], radius_voxels: float
) -> dict[str, float]:
    """Contrast, roughness and darkest pixels of a particle in an image in spreads.

    Contrast is the mean within half the particle's radius, roughness the standard deviation there.
    """
    rows, columns = np.indices(image.shape)
    within = np.hypot(rows - centre_yx[0], columns - centre_yx[1]) <= 0.5 * radius_voxels
    return {
        "contrast": float(image[within].mean()),
        "roughness": float(image[within].std()),
        "darkest 5 %": float(np.quantile(image[within], 0.05)),
    }


def radial_profile(
    image: NDArray[np.float64], centre_yx: NDArray[np.float64], radius_voxels: float
) -> NDArray[np.float64]:
    """Mean of an image in rings of `PROFILE_STEP_VOXELS` around a centre; NaN for a ring outside the image."""
    rows, columns = np.indices(image.shape)
    ring = (np.hypot(rows - centre_yx[0], columns - centre_yx[1]) / PROFILE_STEP_VOXELS).astype(int)
    rings = int(radius_voxels / PROFILE_STEP_VOXELS)
    return np.array([image[ring == index].mean() if (ring == index).any() else np.nan for index in range(rings)])


def projection_figures(projections: Sequence[NDArray[np.floating]]) -> dict[str, float]:
    """Profile and texture of minimum projections of particles, each stretched from 0 (dark) to 1 (bright)."""
    stretched = [(crop - crop.min()) / np.ptp(crop) for crop in (np.asarray(p, dtype=np.float64) for p in projections)]
    centre = (np.array(stretched[0].shape) - 1) / 2
    profile = np.mean([radial_profile(crop, centre, 14.0) for crop in stretched], axis=0)
    figures = {
        f"mean at {PROFILE_STEP_VOXELS * ring:.0f} to {PROFILE_STEP_VOXELS * (ring + 1):.0f} voxels": float(value)
        for ring, value in enumerate(profile)
    }
    figures["standard deviation"] = float(np.mean([crop.std() for crop in stretched]))
    figures["median"] = float(np.median(stretched))
    neighbours = [np.corrcoef(crop[:, 1:].ravel(), crop[:, :-1].ravel())[0, 1] for crop in stretched]
    return figures | {"correlation of neighbours": float(np.mean(neighbours))}

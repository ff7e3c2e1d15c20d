"""Time limits: how long tomograms take, and how thoroughly the rest can be picked in the time that is left."""

import logging
import math
from collections import deque
from dataclasses import replace

from kaggle_cryoet.picking.segment import SegmentSettings
from kaggle_cryoet.picking.windows import WindowSettings, fit_window, round_up, window_starts

logger = logging.getLogger(__name__)

RESERVE = 0.1
"""Share of the time left that no forecast may use: tomograms do not all take the same time."""
REMEMBERED = 5
"""Durations that a forecast is made from, the latest ones with the same settings."""


def network_voxels(settings: SegmentSettings, shape_zyx: tuple[int, ...], multiple: int) -> int:
    """Voxels that a network looks at in one tomogram, all windows and flips counted; its time is in proportion."""
    windows = settings.windows
    edges = fit_window(windows.window_zyx, shape_zyx, multiple)
    counts = [
        len(window_starts(size, edge, overlap=windows.overlap, multiple=multiple))
        for size, edge in zip(shape_zyx, edges, strict=True)
    ]
    return settings.flips * math.prod(edges) * math.prod(counts)


def without_overlap(windows: WindowSettings, shape_zyx: tuple[int, ...], multiple: int) -> WindowSettings:
    """As many windows along each axis, as small as they can be: side by side."""
    edges = fit_window(windows.window_zyx, shape_zyx, multiple)
    z, y, x = (
        round_up(-(-size // len(window_starts(size, edge, overlap=windows.overlap, multiple=multiple))), multiple)
        for size, edge in zip(shape_zyx, edges, strict=True)
    )
    return WindowSettings(window_zyx=(z, y, x), overlap=0.0)


def cheaper_settings(settings: SegmentSettings, shape_zyx: tuple[int, ...], multiple: int) -> list[SegmentSettings]:
    """The settings and what can be done for less: half the flips, and so on; at last without overlap of windows."""
    ladder = [settings]
    while ladder[-1].flips > 1:
        ladder.append(replace(ladder[-1], flips=ladder[-1].flips // 2))
    tiled = replace(ladder[-1], windows=without_overlap(settings.windows, shape_zyx, multiple))
    if network_voxels(tiled, shape_zyx, multiple) < network_voxels(ladder[-1], shape_zyx, multiple):
        ladder.append(tiled)
    return ladder


class Pace:
    """Chooses for each tomogram the most thorough settings with which all that are left are likely to be done in time.

    Parameters
    ----------
    settings
        What is wished for; nothing more costly is ever chosen.
    multiple
        What the edges of the network's windows are multiples of.
    deadline
        When everything must be done, on the clock of `time.monotonic`; None if it does not matter.
    """

    def __init__(self, settings: SegmentSettings, *, multiple: int, deadline: float | None) -> None:
        self.settings = settings
        self._multiple = multiple
        self._deadline = deadline
        self._seconds: dict[SegmentSettings, deque[float]] = {}
        self._warm = False
        self._forecast_told = False

    def choose(self, shape_zyx: tuple[int, ...], *, left: int, now: float) -> SegmentSettings | None:
        """Settings for the next tomogram of `left`; None if it would not end in time even with the cheapest."""
        if self._deadline is None:
            return self.settings
        seconds_left = self._deadline - now
        if seconds_left <= 0:
            return None
        if not self._seconds:
            return self.settings
        ladder = cheaper_settings(self.settings, shape_zyx, self._multiple)
        forecasts = [self._forecast(settings, shape_zyx) for settings in ladder]
        fitting = [n for n, forecast in enumerate(forecasts) if left * forecast <= (1 - RESERVE) * seconds_left]
        chosen = fitting[0] if fitting else len(ladder) - 1
        self._tell(ladder[chosen], left, left * forecasts[0], seconds_left, fits=bool(fitting))
        longest = max(self._seconds.get(ladder[chosen], ()), default=forecasts[chosen])
        return ladder[chosen] if longest <= seconds_left else None

    def record(self, settings: SegmentSettings, seconds: float) -> None:
        """Note how long a tomogram took; the first, for which kernels are compiled, counts until there is another."""
        if not self._warm and self._seconds:
            self._seconds.clear()
            self._warm = True
        self._seconds.setdefault(settings, deque(maxlen=REMEMBERED)).append(seconds)

    def _forecast(self, settings: SegmentSettings, shape_zyx: tuple[int, ...]) -> float:
        """Seconds for one tomogram: the mean of those measured, or in proportion to another setting's."""
        known = self._seconds.get(settings)
        if known:
            return sum(known) / len(known)
        cost = network_voxels(settings, shape_zyx, self._multiple)
        other, seconds = next(reversed(self._seconds.items()))
        return sum(seconds) / len(seconds) * cost / network_voxels(other, shape_zyx, self._multiple)

    def _tell(self, chosen: SegmentSettings, left: int, wished: float, seconds_left: float, *, fits: bool) -> None:
        """Say once when not all of what was wished for can be done in time."""
        if self._forecast_told or (fits and chosen == self.settings):
            return
        self._forecast_told = True
        logger.warning(
            "the forecast for %d more tomograms is %.1f min with %d flips, %.1f min are left: going on with %d flips, "
            "windows overlap by %g%s",
            left,
            wished / 60,
            self.settings.flips,
            seconds_left / 60,
            chosen.flips,
            chosen.windows.overlap,
            "" if fits else "; some tomograms will not be picked",
        )

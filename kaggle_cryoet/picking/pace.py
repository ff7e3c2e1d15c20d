"""Time limits: how long tomograms take, and how thoroughly the rest can be picked in the time that is left."""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kaggle_cryoet.picking.detect import MULTIPLE as DETECTOR_MULTIPLE
from kaggle_cryoet.picking.detect import DetectSettings
from kaggle_cryoet.picking.segment import SegmentSettings
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picking.windows import WindowSettings, fit_window, round_up, window_starts, windows_for

logger = logging.getLogger(__name__)

RESERVE = 0.1
"""Share of the time left that no forecast may use: tomograms do not all take the same time."""
REMEMBERED = 5
"""Durations that a forecast is made from, the latest ones with the same settings."""
OWN_STATISTICS_COST = {"auto": 1.2, "always": 1.05, "never": 1.0}
"""Time for a U-Net's look at a tomogram, if that may go by its own statistics, over one that does not; auto: where that
is tried in vain. Only a first guess, too."""
YOLO_COST = {"n": 0.7, "s": 2.0, "m": 6.0, "l": 6.3, "x": 12.0}
"""Time for a pixel in a detector of each size, over that for a voxel in the U-Net at half resolution, on a CPU. Only a
first guess: once a branch has been used, its own time counts."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way of picking a tomogram."""

    settings: PickSettings
    cost: float
    """Its time is in proportion to this."""


def network_voxels(settings: SegmentSettings, shape_zyx: tuple[int, ...], *, stride: int, multiple: int) -> int:
    """Voxels that a network looks at in one tomogram, all windows and flips counted; its time is in proportion."""
    windows = settings.windows or windows_for(stride)
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


def cheaper_settings(
    settings: SegmentSettings, shape_zyx: tuple[int, ...], *, stride: int, multiple: int
) -> list[SegmentSettings]:
    """The settings and what can be done for less: half the flips, and so on; at last without overlap of windows."""
    ladder = [settings]
    while ladder[-1].flips > 1:
        ladder.append(replace(ladder[-1], flips=ladder[-1].flips // 2))
    windows = settings.windows or windows_for(stride)
    tiled = replace(ladder[-1], windows=without_overlap(windows, shape_zyx, multiple))
    tiled_voxels, voxels = (
        network_voxels(either, shape_zyx, stride=stride, multiple=multiple) for either in (tiled, ladder[-1])
    )
    if tiled_voxels < voxels:
        ladder.append(tiled)
    return ladder


def detector_pixels(settings: DetectSettings, shape_zyx: tuple[int, ...]) -> int:
    """Pixels that a detector looks at in one tomogram; its time is in proportion."""
    depth, height, width = shape_zyx
    return -(-depth // settings.stride_z) * round_up(height, DETECTOR_MULTIPLE) * round_up(width, DETECTOR_MULTIPLE)


def unet_plans(settings: PickSettings, shape_zyx: tuple[int, ...], *, stride: int, multiple: int) -> list[Plan]:
    """What is wished for of the U-Net, and what can be done for less: first of all, statistics are left alone."""
    ladder = [
        replace(settings, segment=cheaper, own_statistics="never")
        for cheaper in cheaper_settings(settings.segment, shape_zyx, stride=stride, multiple=multiple)
    ]
    if settings != ladder[0]:
        ladder.insert(0, settings)
    return [
        Plan(
            settings=plan,
            cost=OWN_STATISTICS_COST[plan.own_statistics]
            * network_voxels(plan.segment, shape_zyx, stride=stride, multiple=multiple),
        )
        for plan in ladder
    ]


def yolo_plans(settings: PickSettings, shape_zyx: tuple[int, ...], *, size: str) -> list[Plan]:
    """What is wished for of YOLO, and half of the slices."""
    half = replace(settings.detect, stride_z=2 * settings.detect.stride_z)
    return [
        Plan(settings=replace(settings, detect=cheaper), cost=YOLO_COST[size] * detector_pixels(cheaper, shape_zyx))
        for cheaper in (settings.detect, half)
    ]


def hybrid_plans(unet: Sequence[Plan], yolo: Sequence[Plan]) -> list[Plan]:
    """What is wished for of both; what the U-Net can do for less; at last one branch alone, the dearer first."""
    both = [Plan(settings=plan.settings, cost=plan.cost + yolo[0].cost) for plan in unet]
    alone = [(unet[-1], "unet"), (yolo[0], "yolo")]
    alone.sort(key=lambda plan: -plan[0].cost)
    return both + [Plan(settings=replace(plan.settings, branch=branch), cost=plan.cost) for plan, branch in alone]


def describe(settings: PickSettings) -> str:
    """What a pace changes, in words."""
    tiled = settings.segment.windows is not None and settings.segment.windows.overlap == 0
    statistics = {"auto": ", its own statistics where they promise more", "always": ", its own statistics", "never": ""}
    unet = f"{settings.segment.flips} flips, windows {'side by side' if tiled else 'overlap'}"
    unet += statistics[settings.own_statistics]
    yolo = f"every {settings.detect.stride_z}. slice"
    words = {"unet": unet, "yolo": yolo, "hybrid": f"{unet}, {yolo}"}
    return f"{settings.branch} ({words[settings.branch]})"


class Pace:
    """Chooses for each tomogram the most thorough settings with which all that are left are likely to be done in time.

    Parameters
    ----------
    settings
        What is wished for; nothing more costly is ever chosen.
    plans
        For the shape of a tomogram what can be chosen from, what is wished for first, the cheapest last.
    deadline
        When everything must be done, on the clock of `time.monotonic`; None if it does not matter.
    """

    def __init__(
        self,
        settings: PickSettings,
        *,
        plans: Callable[[tuple[int, ...]], Sequence[Plan]],
        deadline: float | None,
    ) -> None:
        self.settings = settings
        self._plans = plans
        self._deadline = deadline
        self._rates: dict[PickSettings, deque[float]] = {}
        """Seconds for a unit of cost, so that tomograms of all sizes tell of each other."""
        self._warm = False
        self._forecast_told = False

    def choose(self, shape_zyx: tuple[int, ...], *, left: int, now: float) -> PickSettings | None:
        """Settings for the next tomogram of `left`; None if it would not end in time even with the cheapest."""
        if self._deadline is None:
            return self.settings
        seconds_left = self._deadline - now
        if seconds_left <= 0:
            return None
        ladder = self._plans(shape_zyx)
        if not self._rates:
            return self.settings
        forecasts = [self._forecast(plan) for plan in ladder]
        fitting = [n for n, forecast in enumerate(forecasts) if left * forecast <= (1 - RESERVE) * seconds_left]
        chosen = fitting[0] if fitting else len(ladder) - 1
        self._tell(ladder[chosen].settings, left, left * forecasts[0], seconds_left, fits=bool(fitting))
        for plan, forecast in zip(ladder[chosen:], forecasts[chosen:], strict=True):
            slowest = max(self._rates.get(plan.settings, ()), default=forecast / plan.cost)
            if slowest * plan.cost <= seconds_left:
                return plan.settings
        return None

    def record(self, settings: PickSettings, shape_zyx: tuple[int, ...], seconds: float) -> None:
        """Note how long a tomogram took; the first, for which kernels are compiled, counts until there is another."""
        if not self._warm and self._rates:
            self._rates.clear()
            self._warm = True
        cost = next(plan.cost for plan in self._plans(shape_zyx) if plan.settings == settings)
        self._rates.setdefault(settings, deque(maxlen=REMEMBERED)).append(seconds / cost)

    def _forecast(self, plan: Plan) -> float:
        """Seconds for a tomogram: by the mean rate of the same settings, or by the latest rate of others."""
        rates = self._rates.get(plan.settings) or next(reversed(self._rates.values()))
        return sum(rates) / len(rates) * plan.cost

    def _tell(self, chosen: PickSettings, left: int, wished: float, seconds_left: float, *, fits: bool) -> None:
        """Say once when not all of what was wished for can be done in time."""
        if self._forecast_told or (fits and chosen == self.settings):
            return
        self._forecast_told = True
        logger.warning(
            "the forecast for %d more tomograms is %.1f min by %s, %.1f min are left: going on by %s%s",
            left,
            wished / 60,
            describe(self.settings),
            seconds_left / 60,
            describe(chosen),
            "" if fits else "; some tomograms will not be picked",
        )

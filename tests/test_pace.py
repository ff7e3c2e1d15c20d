"""The pace that a deadline allows."""

from dataclasses import replace

import pytest

from kaggle_cryoet.picking.detect import DetectSettings
from kaggle_cryoet.picking.pace import (
    Pace,
    Plan,
    cheaper_settings,
    detector_pixels,
    hybrid_plans,
    network_voxels,
    unet_plans,
    without_overlap,
    yolo_plans,
)
from kaggle_cryoet.picking.segment import SegmentSettings
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picking.windows import WindowSettings, fit_window, window_starts

COMPETITION = (184, 630, 630)
WINDOWS = WindowSettings(window_zyx=(192, 352, 352), overlap=0.125)
ONCE, TWICE, FOUR_TIMES = (
    PickSettings(segment=SegmentSettings(flips=flips, windows=WINDOWS), own_statistics="never") for flips in (1, 2, 4)
)


def pace_of(settings: PickSettings, deadline: float | None) -> Pace:
    return Pace(settings, plans=lambda shape: unet_plans(settings, shape, stride=2, multiple=16), deadline=deadline)


def test_a_competition_tomogram_takes_four_of_these_windows() -> None:
    assert network_voxels(ONCE.segment, COMPETITION, stride=2, multiple=16) == 4 * 192 * 352 * 352
    assert network_voxels(FOUR_TIMES.segment, COMPETITION, stride=2, multiple=16) == 16 * 192 * 352 * 352


@pytest.mark.parametrize("shape", [COMPETITION, (184, 630, 910), (40, 72, 88)])
@pytest.mark.parametrize("windows", [WINDOWS, WindowSettings()])
def test_windows_without_overlap_cover_everything_side_by_side(shape: tuple[int, ...], windows: WindowSettings) -> None:
    tiled = without_overlap(windows, shape, 16)
    before, after = fit_window(windows.window_zyx, shape, 16), fit_window(tiled.window_zyx, shape, 16)
    for size, edge_before, edge in zip(shape, before, after, strict=True):
        starts = window_starts(size, edge, overlap=0.0, multiple=16)
        assert starts[-1] + edge >= size
        assert len(starts) == len(window_starts(size, edge_before, overlap=windows.overlap, multiple=16))
        assert edge <= edge_before


def test_flips_are_saved_first_and_overlap_last() -> None:
    ladder = cheaper_settings(SegmentSettings(flips=8, windows=WINDOWS), COMPETITION, stride=2, multiple=16)
    assert [settings.flips for settings in ladder] == [8, 4, 2, 1, 1]
    assert [settings.windows.overlap for settings in ladder] == [0.125, 0.125, 0.125, 0.125, 0.0]
    assert ladder[-1].windows.window_zyx == (192, 320, 320)
    costs = [network_voxels(settings, COMPETITION, stride=2, multiple=16) for settings in ladder]
    assert costs == sorted(costs, reverse=True)


def test_overlap_is_kept_where_it_costs_nothing() -> None:
    assert cheaper_settings(ONCE.segment, (40, 72, 88), stride=2, multiple=16) == [ONCE.segment]


def test_windows_suit_the_stride_of_the_network() -> None:
    half, full = (network_voxels(SegmentSettings(), COMPETITION, stride=stride, multiple=16) for stride in (2, 1))
    assert half == 6 * 192 * 240 * 352  # full depth
    assert full == 3 * 5 * 5 * 96 * 192 * 192  # (184 - 96) / 72 and (630 - 192) / 144, rounded up, and one more
    tiled = cheaper_settings(SegmentSettings(), COMPETITION, stride=1, multiple=4)[-1]
    assert tiled.windows == WindowSettings(window_zyx=(64, 128, 128), overlap=0.0)


def test_what_may_take_too_long_gives_way_to_something_cheaper() -> None:
    pace = pace_of(TWICE, 100.0)
    for seconds in (10.0, 10.0, 10.0, 10.0, 60.0):
        pace.record(TWICE, COMPETITION, seconds)
    # the mean, 22.5 s without the first, fits twice into 50 s; the longest, 60 s, does not
    assert pace.choose(COMPETITION, left=2, now=50.0) == ONCE


def test_without_a_deadline_everything_is_done_as_wished() -> None:
    pace = pace_of(FOUR_TIMES, None)
    pace.record(FOUR_TIMES, COMPETITION, 1e9)
    assert pace.choose(COMPETITION, left=10**6, now=0.0) == FOUR_TIMES


def test_as_long_as_nothing_is_known_it_is_tried_as_wished_unless_the_time_is_up() -> None:
    pace = pace_of(FOUR_TIMES, 100.0)
    assert pace.choose(COMPETITION, left=500, now=99.0) == FOUR_TIMES
    assert pace.choose(COMPETITION, left=500, now=100.0) is None


def test_what_fits_is_done_as_wished() -> None:
    pace = pace_of(FOUR_TIMES, 1000.0)
    pace.record(FOUR_TIMES, COMPETITION, 89.0)
    assert pace.choose(COMPETITION, left=10, now=0.0) == FOUR_TIMES  # 890 s of 900


def test_what_does_not_fit_is_done_with_as_many_flips_as_do(caplog: pytest.LogCaptureFixture) -> None:
    pace = pace_of(FOUR_TIMES, 1000.0)
    pace.record(FOUR_TIMES, COMPETITION, 100.0)
    assert pace.choose(COMPETITION, left=15, now=0.0) == TWICE  # 1500 s, then 750 s
    assert "the forecast for 15 more tomograms is 25.0 min by unet (4 flips, windows overlap)" in caplog.text
    assert "16.7 min are left: going on by unet (2 flips, windows overlap)" in caplog.text


def test_the_first_tomogram_counts_only_until_there_is_another() -> None:
    pace = pace_of(FOUR_TIMES, 1000.0)
    pace.record(FOUR_TIMES, COMPETITION, 100.0)
    assert pace.choose(COMPETITION, left=15, now=0.0) == TWICE
    pace.record(TWICE, COMPETITION, 20.0)  # 40 s with four flips
    assert pace.choose(COMPETITION, left=14, now=100.0) == FOUR_TIMES


@pytest.mark.parametrize("settings", [FOUR_TIMES, TWICE], ids=["of the same settings", "of others"])
def test_small_tomograms_tell_how_long_large_ones_take(settings: PickSettings) -> None:
    small = (184, 200, 200)
    costs = [unet_plans(settings, shape, stride=2, multiple=16)[0].cost for shape in (small, COMPETITION)]
    pace = pace_of(FOUR_TIMES, 1000.0)
    pace.record(settings, small, 1.0)
    seconds = costs[1] / costs[0] * (FOUR_TIMES.segment.flips / settings.segment.flips)  # of a large one as wished for
    assert seconds > 5
    assert pace.choose(COMPETITION, left=int(890 / seconds), now=0.0) == FOUR_TIMES
    assert pace.choose(COMPETITION, left=int(920 / seconds) + 1, now=0.0) == TWICE


def test_the_measured_time_counts_for_more_than_the_estimated_one() -> None:
    pace = pace_of(FOUR_TIMES, 1000.0)
    pace.record(FOUR_TIMES, COMPETITION, 400.0)
    pace.record(FOUR_TIMES, COMPETITION, 100.0)
    pace.record(TWICE, COMPETITION, 90.0)  # the network is not what takes the time
    assert pace.choose(COMPETITION, left=11, now=0.0) == ONCE


def test_when_nothing_fits_the_cheapest_is_done_until_the_time_is_up(caplog: pytest.LogCaptureFixture) -> None:
    pace = pace_of(TWICE, 1000.0)
    pace.record(TWICE, COMPETITION, 500.0)
    cheapest = unet_plans(TWICE, COMPETITION, stride=2, multiple=16)[-1].settings
    assert pace.choose(COMPETITION, left=100, now=0.0) == cheapest
    assert "some tomograms will not be picked" in caplog.text
    pace.record(cheapest, COMPETITION, 210.0)
    assert pace.choose(COMPETITION, left=99, now=780.0) == cheapest
    assert pace.choose(COMPETITION, left=99, now=800.0) is None


def test_a_detector_looks_at_whole_slices_with_a_rim_and_can_leave_out_every_second() -> None:
    assert detector_pixels(DetectSettings(stride_z=1), COMPETITION) == 184 * 640 * 640
    assert detector_pixels(DetectSettings(stride_z=3), (40, 72, 88)) == 14 * 96 * 96
    wished, half = yolo_plans(PickSettings(branch="yolo"), COMPETITION, size="n")
    assert (wished.settings.detect.stride_z, half.settings.detect.stride_z) == (3, 6)
    assert wished.cost == 2 * half.cost


@pytest.mark.parametrize("wish", ["auto", "always"])
def test_a_tomograms_own_statistics_are_saved_before_flips(wish: str) -> None:
    wished = replace(TWICE, own_statistics=wish)
    plans = unet_plans(wished, COMPETITION, stride=2, multiple=16)
    assert [plan.settings for plan in plans[:3]] == [wished, TWICE, ONCE]
    assert plans[0].cost > plans[1].cost == 2 * plans[2].cost
    assert unet_plans(TWICE, COMPETITION, stride=2, multiple=16) == plans[1:]


def test_the_hybrid_saves_flips_then_overlap_then_a_branch() -> None:
    wished = PickSettings(branch="hybrid", segment=SegmentSettings(flips=2, windows=WINDOWS))
    unet, yolo = unet_plans(wished, COMPETITION, stride=2, multiple=16), yolo_plans(wished, COMPETITION, size="n")
    plans = hybrid_plans(unet, yolo)
    chosen = [(p.settings.branch, p.settings.segment.flips, p.settings.segment.windows.overlap) for p in plans]
    assert chosen[:4] == [("hybrid", 2, 0.125), ("hybrid", 2, 0.125), ("hybrid", 1, 0.125), ("hybrid", 1, 0.0)]
    assert [branch for branch, _, _ in chosen[4:]] == ["unet", "yolo"]
    assert plans[0].settings == wished
    assert [plan.settings.own_statistics for plan in plans[:5]] == ["auto", *["never"] * 4]
    costs = [plan.cost for plan in plans]
    assert costs == sorted(costs, reverse=True)
    assert hybrid_plans(unet, yolo_plans(wished, COMPETITION, size="x"))[-1].settings.branch == "unet"


def test_a_branch_is_forecast_from_the_measured_time_of_another() -> None:
    hybrid, unet = PickSettings(branch="hybrid"), PickSettings(branch="unet")
    ladder = [Plan(settings=hybrid, cost=3.0), Plan(settings=unet, cost=2.0)]
    pace = Pace(hybrid, plans=lambda shape: ladder, deadline=1000.0)
    assert pace.choose(COMPETITION, left=31, now=0.0) == hybrid
    pace.record(hybrid, COMPETITION, 30.0)
    assert pace.choose(COMPETITION, left=30, now=0.0) == hybrid  # 900 s
    assert pace.choose(COMPETITION, left=45, now=0.0) == unet  # 1350 s, then 900 s

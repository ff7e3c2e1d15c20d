"""Options that several verbs of the command line share."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kaggle_cryoet.picking.adapt import AdaptSettings
    from kaggle_cryoet.picking.settings import PickSettings

device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
flips_option = click.option(
    "--flips",
    type=click.Choice(["1", "2", "4", "8"]),
    default="1",
    show_default=True,
    help="Test-time augmentation: average over so many flips.",
)
strict_option = click.option(
    "--strict",
    is_flag=True,
    help="Pick what is above the fitted thresholds, and not what is expected to score best in each tomogram.",
)
own_statistics_option = click.option(
    "--own-statistics",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Whether the U-Net goes by the statistics of each tomogram; auto: where it is surer of what it finds so.",
)
tomogram_type_option = click.option(
    "--tomogram-type", default="denoised", show_default=True, help="Reconstruction to take where a run has several."
)
particles_option = click.option(
    "--particles",
    type=click.Choice(["auto", "dark", "bright"]),
    default="auto",
    show_default=True,
    help="Auto: on the side to which the grey values are skewed.",
)
_voxel_option = click.option(
    "--voxel", type=float, metavar="ANGSTROM", help="Edge of a voxel, in place of that in the files."
)
_tilt_axis_option = click.option(
    "--tilt-axis",
    type=click.Choice(["auto", "y", "x"]),
    default="auto",
    show_default=True,
    help="Auto: by the missing wedge.",
)


def adapt_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb `--particles`, `--voxel` and `--tilt-axis`, which reach it as its one argument `adapt`."""

    @functools.wraps(verb)
    def with_adapt(*, particles: str, voxel: float | None, tilt_axis: str, **others: object) -> None:
        from kaggle_cryoet.picking.adapt import AdaptSettings

        verb(adapt=AdaptSettings(tone=particles, voxel_angstrom=voxel, tilt_axis=tilt_axis), **others)

    return particles_option(_voxel_option(_tilt_axis_option(with_adapt)))


def pick_settings(
    flips: str, adapt: "AdaptSettings", *, own_statistics: str = "auto", strict: bool = False
) -> "PickSettings":
    """Settings of picking for values of the options above."""
    from kaggle_cryoet.picking.segment import SegmentSettings
    from kaggle_cryoet.picking.settings import PickSettings

    return PickSettings(
        adapt=adapt,
        segment=SegmentSettings(flips=int(flips)),
        own_statistics=own_statistics,
        strict=strict,
    )

"""Options that several verbs of the command line share."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
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


def pick_settings(flips: str, *, strict: bool = False) -> "PickSettings":
    """Settings of picking for values of `flips_option` and `strict_option`."""
    from kaggle_cryoet.picking.segment import SegmentSettings
    from kaggle_cryoet.picking.settings import PickSettings

    return PickSettings(segment=SegmentSettings(flips=int(flips)), strict=strict)

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


def pick_settings(flips: str) -> "PickSettings":
    """Settings of picking for a value of `flips_option`."""
    from kaggle_cryoet.picking.segment import SegmentSettings
    from kaggle_cryoet.picking.settings import PickSettings

    return PickSettings(segment=SegmentSettings(flips=int(flips)))

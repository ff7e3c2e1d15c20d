"""Arithmetic and memory traffic of the networks for one tomogram, counted and not timed: `python -m benchmarks.cost`.

Networks run on torch's `meta` device, which knows shapes and no numbers; the figures are those of any machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from kaggle_cryoet.geometry import CZII_SHAPE_ZYX
from kaggle_cryoet.models.unet3d import HALF, UNetSettings, build_unet
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.picking.detect import DetectSettings
from kaggle_cryoet.picking.own_statistics import CROP_VOXELS, middle
from kaggle_cryoet.picking.pace import network_voxels
from kaggle_cryoet.picking.segment import SegmentSettings
from kaggle_cryoet.picking.windows import Zyx, fit_window, round_up, windows_for

YOLO_MULTIPLE = 32
T4_FLOP_PER_SECOND, T4_BYTES_PER_SECOND = 8e12, 200e9
"""What a T4 is assumed to reach: an eighth of its peak in half precision, two thirds of its memory's bandwidth."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network does for one tomogram."""

    flop: float
    """Multiplications and additions, each counted."""
    traffic_bytes: float
    """Bytes that operations read and write in half precision if none of them is fused and nothing stays in a cache."""

    def times(self, number: float) -> "Cost":
        """The same, so many times."""
        return Cost(flop=self.flop * number, traffic_bytes=self.traffic_bytes * number)

    @property
    def t4_seconds(self) -> tuple[float, float]:
        """Seconds on a T4, if arithmetic hides behind memory traffic or the other way round, and if neither does."""
        arithmetic, memory = self.flop / T4_FLOP_PER_SECOND, self.traffic_bytes / T4_BYTES_PER_SECOND
        return max(arithmetic, memory), arithmetic + memory


class _TrafficMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of what operations read and write; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return result


def network_cost(network: torch.nn.Module, shape: Sequence[int]) -> Cost:
    """Cost of one input of a shape, in half precision."""
    network = network.to("meta", torch.float16)
    flops = FlopCounterMode(display=False)
    with torch.no_grad(), flops:  # inference mode hides operations from the counters
        network(torch.empty(*shape, device="meta", dtype=torch.float16))
    with torch.no_grad(), _TrafficMode() as traffic:
        network(torch.empty(*shape, device="meta", dtype=torch.float16))
    return Cost(flop=flops.get_total_flops(), traffic_bytes=traffic.bytes)


def unet_cost(settings: UNetSettings, shape_zyx: Zyx, *, flips: int = 1) -> tuple[Cost, int]:
    """Cost of a tomogram in the default windows, and the voxels that the network looks at."""
    network = build_unet(settings).eval()
    multiple: int = network.multiple  # type: ignore[assignment]
    stride: int = network.stride  # type: ignore[assignment]
    window = fit_window(windows_for(stride).window_zyx, shape_zyx, multiple)
    voxels = network_voxels(SegmentSettings(flips=flips), shape_zyx, stride=stride, multiple=multiple)
    one = network_cost(network, (1, 1, *window))
    return one.times(voxels / (window[0] * window[1] * window[2])), voxels


def second_look_cost(settings: UNetSettings, shape_zyx: Zyx) -> Cost:
    """Cost of trying a tomogram's own statistics with one flip: four crops, and the middle."""
    network = build_unet(settings).eval()
    multiple: int = network.multiple  # type: ignore[assignment]
    z, y, x = (part.stop - part.start for part in middle(shape_zyx, multiple))
    tried, _ = unet_cost(settings, (z, y, x))
    crops = network_cost(network, (4, 1, *fit_window((CROP_VOXELS,) * 3, shape_zyx, multiple)))
    return Cost(flop=tried.flop + crops.flop, traffic_bytes=tried.traffic_bytes + crops.traffic_bytes)


def yolo_cost(settings: YoloSettings, shape_zyx: Zyx) -> Cost:
    """Cost of the slices of a tomogram that are looked at, without turning the answers into boxes."""
    _, height, width = shape_zyx
    network = build_yolo(settings).eval()
    network.model[-1].train()  # type: ignore[index, union-attr]  # the head then leaves out the boxes
    image = (1, 3, round_up(height, YOLO_MULTIPLE), round_up(width, YOLO_MULTIPLE))
    return network_cost(network, image).times(slices_looked_at(shape_zyx))


def slices_looked_at(shape_zyx: Zyx) -> int:
    """Number of slices by default."""
    return -(-shape_zyx[0] // DetectSettings().stride_z)


@click.command()
@click.option("--shape", nargs=3, type=int, default=CZII_SHAPE_ZYX, show_default=True, metavar="Z Y X")
@click.option("--yolo-size", default="n", show_default=True, help="Of YOLO11: n, s, m, l or x.")
@click.option("--tomograms", type=int, default=500, show_default=True, help="Shared by two GPUs.")
def main(shape: Zyx, yolo_size: str, tomograms: int) -> None:
    """Print the cost of each network for a tomogram, and what it would take on two T4."""
    rows = []
    for flips in (1, 4):
        cost, voxels = unet_cost(HALF, shape, flips=flips)
        rows.append((f"3D U-Net, {flips} flip{'s' * (flips > 1)}: {voxels / 1e6:.0f} million voxels looked at", cost))
    rows.append(("the same, one flip: trying a tomogram's own statistics", second_look_cost(HALF, shape)))
    rows.append(
        (f"YOLO11-{yolo_size}: {slices_looked_at(shape)} slices", yolo_cost(YoloSettings(size=yolo_size), shape))
    )
    click.echo(
        f"One tomogram of {' x '.join(map(str, shape))} voxels; a T4 at {T4_FLOP_PER_SECOND / 1e12:g} TFLOP/s and "
        f"{T4_BYTES_PER_SECOND / 1e9:g} GB/s\n\n"
        f"| network | TFLOP | GB | s on a T4 | {tomograms} on two T4, minutes |\n|---|---|---|---|---|"
    )
    for name, cost in rows:
        least, most = cost.t4_seconds
        minutes = [seconds * tomograms / 2 / 60 for seconds in (least, most)]
        click.echo(
            f"| {name} | {cost.flop / 1e12:.2f} | {cost.traffic_bytes / 1e9:.0f} | {least:.1f} to {most:.1f} | "
            f"{minutes[0]:.0f} to {minutes[1]:.0f} |"
        )


if __name__ == "__main__":
    main()

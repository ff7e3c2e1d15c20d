"""Pictures of what a detector finds in single slices of a tomogram, with confidences."""

from pathlib import Path

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import index_to_angstrom
from kaggle_cryoet.picking.detect import Detections
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report.look_picture import draw_look
from kaggle_cryoet.report.slice_count import SliceCount, count_detections
from kaggle_cryoet.report.slices import choose_slices
from kaggle_cryoet.report.style import file_stem
from kaggle_cryoet.tomogram import Tomogram


def draw_detections(
    tomogram: Tomogram,
    detections: Detections,
    truth: Picks | None,
    *,
    output: Path,
    count: int = 4,
) -> dict[Path, SliceCount]:
    """Write pictures of `count` slices into the folder `output`; what is in each by path, `<run>_z<index>.png`, by z.

    Indices are those of the file, from 0.

    A detection is a circle as large as its box, with its confidence; with truth they are counted as `look` does. The
    slices are spread over the tomogram, each the one of its part in which most is to be seen.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    found = Picks(
        position_zyx_angstrom=index_to_angstrom(detections.index_zyx, tomogram.voxel_angstrom),
        label=detections.label,
        score=detections.confidence,
    )
    radius_angstrom = detections.diameter_voxels.mean(axis=1) / 2 * tomogram.voxel_angstrom
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made ({error.strerror})") from error
    counts = {}
    for z in choose_slices(tomogram, found if truth is None else truth, count):
        here = detections.index_zyx[:, 0] == z
        index = tomogram.slice_in_file(z)
        path = output / f"{file_stem(tomogram.name)}_z{index:03d}.png"
        counts[path] = count_detections(found.select(here), truth, z_angstrom=z * tomogram.voxel_angstrom)
        draw_look(
            tomogram.data[z],
            counts[path],
            radius_angstrom[here],
            voxel_angstrom=tomogram.voxel_angstrom,
            name=f"{tomogram.name} z {index}",
            output=path,
        )
    return counts

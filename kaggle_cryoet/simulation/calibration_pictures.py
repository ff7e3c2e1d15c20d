"""Real slices beside simulated ones, in one display window, and a gallery of the six particles: as grey PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.simulation.calibration_slices import PLANES, SliceSet

WINDOW = (-6.0, 3.5)
"""Black and white of the pictures, in spreads."""
GALLERY_EDGE = 44
GALLERY_COLUMNS = 6
GALLERY_ZOOM = 2
GAP_PIXELS = 4
FIELD_PIXELS = 360
"""Edge of the part of the simulated field that is shown alone."""
WHITE = np.uint8(255)

Grey = NDArray[np.uint8]


def grey(image: NDArray[np.floating], window: tuple[float, float] = WINDOW) -> Grey:
    """An image in spreads as 8 bit grey; NaN becomes white."""
    darkest, brightest = window
    level = np.clip((image - darkest) / (brightest - darkest), 0, 1)
    return np.where(np.isnan(level), 255, np.round(255 * np.nan_to_num(level))).astype(np.uint8)


def montage(rows: Sequence[Sequence[Grey]]) -> Grey:
    """Images in cells of one size, with white gaps between them; what is not covered is white."""
    height, width = np.max([image.shape for row in rows for image in row], axis=0)
    columns = max(len(row) for row in rows)
    sheet = np.full(
        ((height + GAP_PIXELS) * len(rows) - GAP_PIXELS, (width + GAP_PIXELS) * columns - GAP_PIXELS), WHITE
    )
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            top, left = y * (height + GAP_PIXELS), x * (width + GAP_PIXELS)
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def gallery_row(slices: SliceSet, label: int) -> list[Grey]:
    """Crops of particles of one type seen in the field."""
    half = GALLERY_EDGE // 2
    crops = []
    for image, centre in slices.seen[label][:GALLERY_COLUMNS]:
        padded = np.pad(image, half, constant_values=np.nan)
        y, x = np.round(centre).astype(int)
        crop = grey(padded[y : y + GALLERY_EDGE, x : x + GALLERY_EDGE])
        crops.append(crop.repeat(GALLERY_ZOOM, axis=0).repeat(GALLERY_ZOOM, axis=1))
    return crops


def _blank_row() -> list[Grey]:
    edge = GALLERY_EDGE * GALLERY_ZOOM
    return [np.full((edge, edge), WHITE)] * GALLERY_COLUMNS


def _gallery(slices: SliceSet) -> Grey:
    blank = _blank_row()
    rows = [gallery_row(slices, label) for label in range(len(PARTICLES))]
    return montage([row + blank[len(row) :] for row in rows])


def _planes(slices: SliceSet, plane: str) -> Grey:
    return montage([[grey(image) for image in slices.planes[plane]]])


def draw_pictures(real: SliceSet, simulated: SliceSet, directory: Path) -> list[Path]:
    """Write `real_and_simulated_<what>.png`, real left or above, and the simulated halves, `simulated_<what>.png`.

    What is a field of view (`field`), slices through a crop (`xy`, `xz`, `yz`) and particles of the six types from the
    field, one type per row (`particles`).
    """
    from PIL import Image

    pairs = {"field": (grey(real.field, real.window), grey(simulated.field, real.window))}
    pairs |= {plane: (_planes(real, plane), _planes(simulated, plane)) for plane in PLANES}
    pairs["particles"] = (_gallery(real), _gallery(simulated))
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (left, right) in pairs.items():
        beside = name in ("field", "particles")
        for stem, image in (
            (f"real_and_simulated_{name}", montage([[left, right]] if beside else [[left], [right]])),
            (f"simulated_{name}", right[:FIELD_PIXELS, :FIELD_PIXELS] if name == "field" else right),
        ):
            written.append(directory / f"{stem}.png")
            Image.fromarray(image).save(written[-1], optimize=True)
    return written

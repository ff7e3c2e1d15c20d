"""Reading the image of a single slice: png, tif, jpg and whatever else Pillow knows."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError

LEAST_EDGE = 32
"""In pixels."""
SAMPLE_FORMAT, UNSIGNED, SIGNED = 339, 1, 2
"""Tag of a tif, and what it says of integers without and with a sign."""
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""Tag of a tif, and what it says if 0 is white."""
BITS = 258
"""Tag of a tif with the number of bits of a grey value."""


def read_slice_image(path: str | Path) -> NDArray[np.float32]:
    """`(y, x)` grey values of an image; those of colours are their luminance.

    Raises
    ------
    InputError
        If it does not exist, is no image or not a whole one, holds several, is smaller than `LEAST_EDGE`, or has pixels
        that are not finite or are all equal. The message names the path.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path}: {what}; expected an image of one slice, png, tif or jpg")
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            grey = image if image.mode in ("L", "I", "F") or image.mode.startswith("I;16") else image.convert("L")
            data = np.asarray(grey, dtype=np.float32)
            tags = getattr(image, "tag_v2", {})
            sign = tags.get(SAMPLE_FORMAT, (UNSIGNED,))
            if image.mode == "L" and sign == (SIGNED,):
                data = np.where(data > 127, data - 256, data)  # which Pillow takes for unsigned
            if image.mode == "I" and tags.get(BITS) == (32,) and sign == (UNSIGNED,):
                data = np.where(data < 0, data + np.float32(2**32), data)  # which it takes for signed
            if image.mode.startswith("I") and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
                data = -data  # which it does itself for bytes alone
    except (UnidentifiedImageError, ImportError):  # ultralytics, once imported, looks for a plugin that is not there
        raise InputError(f"{path}: not an image; expected one slice as png, jpg or tif of up to 32 bits") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from None
    if frames > 1:
        raise InputError(f"{path}: holds {frames} images; expected one slice")
    if min(data.shape) < LEAST_EDGE:
        size = f"{data.shape[1]} x {data.shape[0]}"
        raise InputError(f"{path}: has {size} pixels; expected {LEAST_EDGE} or more each way")
    if not np.isfinite(data).all():
        raise InputError(f"{path}: {int((~np.isfinite(data)).sum())} of {data.size} pixels are NaN or infinite")
    if data.min() == data.max():
        raise InputError(f"{path}: is empty: all pixels have the value {data.flat[0]:g}")
    return data

"""The boxes in a YOLO label file, read back."""

import numpy as np

from kaggle_cryoet.training.slice_boxes import Boxes


def boxes_of_lines(text: str, shape_yx: tuple[int, int]) -> Boxes:
    """Class, then centre x, centre y, width and height as shares of the image, in each line."""
    rows = np.array([line.split() for line in text.splitlines()], dtype=np.float64).reshape(-1, 5)
    shape = np.array(shape_yx)
    return Boxes(label=rows[:, 0].astype(np.int64), centre_yx=rows[:, [2, 1]] * shape, size_yx=rows[:, [4, 3]] * shape)

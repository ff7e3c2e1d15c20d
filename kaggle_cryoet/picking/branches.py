"""The ways of picking, and the models that each of them needs. Imports nothing heavy."""

from pathlib import Path

from kaggle_cryoet.errors import InputError

UNET_FOLDER = "unet3d"
YOLO_FOLDER = "yolo11"
HYBRID_FOLDER = "hybrid"
MODELS = {
    "hybrid": (UNET_FOLDER, YOLO_FOLDER, HYBRID_FOLDER),
    "unet": (UNET_FOLDER,),
    "yolo": (YOLO_FOLDER,),
}
"""Model folders that each branch needs, side by side in a folder of weights."""
BRANCHES = tuple(MODELS)
SHIPPED_WEIGHTS = Path(__file__).parent.parent / "weights"
"""Models that are part of the package, of all branches."""


def find_models(branch: str, weights: Path) -> dict[str, Path]:
    """The model folders that a branch needs, by their names in `MODELS`.

    Parameters
    ----------
    branch
        One of `BRANCHES`.
    weights
        Folder with the model folders; or the model folder itself, if the branch needs but one.

    Raises
    ------
    InputError
        If the branch is unknown, or a model folder is missing.
    """
    if branch not in MODELS:
        raise InputError(f"branch {branch!r} is not available in this version; expected {' or '.join(BRANCHES)}")
    found = {name: weights / name for name in MODELS[branch]}
    missing = [name for name, folder in found.items() if not folder.is_dir()]
    if not missing:
        return found
    if len(found) == 1 and not any((weights / other).is_dir() for names in MODELS.values() for other in names):
        return {missing[0]: weights}
    raise InputError(
        f"{weights}: branch {branch} needs the model folders {', '.join(found)}; {', '.join(missing)} not found there"
    )

"""Find protein complexes in cryo-electron tomograms.

`predict` turns a directory of tomograms into `submission.csv`, `evaluate` scores it, `simulate` makes labelled
tomograms.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaggle_cryoet.jobs import evaluate, predict
    from kaggle_cryoet.simulation.dataset import simulate

__all__ = ["__version__", "evaluate", "predict", "simulate"]
__version__ = "0.1.0"

_HOME = {
    "evaluate": "kaggle_cryoet.jobs",
    "predict": "kaggle_cryoet.jobs",
    "simulate": "kaggle_cryoet.simulation.dataset",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is asked for: importing the package alone takes no torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)

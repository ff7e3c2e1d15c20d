"""Training with ultralytics without anything that goes online or prints."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaggle_cryoet.models.yolo11 import offline_ultralytics


@contextmanager
def local_ultralytics() -> Iterator[None]:
    """Ultralytics without anything that goes online or prints: fonts come from matplotlib, no service is told."""
    offline_ultralytics()
    import ultralytics.data.utils as ultralytics_data
    import ultralytics.utils.callbacks as ultralytics_callbacks
    import ultralytics.utils.plotting as ultralytics_plotting
    from ultralytics.utils import LOGGER

    patched: list[tuple[Any, str, Callable[..., Any]]] = [
        (ultralytics_data, "check_font", _matplotlib_font),
        (ultralytics_plotting, "check_font", _matplotlib_font),
        (ultralytics_callbacks, "add_integration_callbacks", lambda _: None),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in patched]
    level, threads = LOGGER.level, set(threading.enumerate())
    LOGGER.setLevel("WARNING")
    try:
        for module, name, replacement in patched:
            setattr(module, name, replacement)
        yield
    finally:
        for thread in set(threading.enumerate()) - threads:
            if "plot_images" in thread.name:
                thread.join()  # it is drawing, and looks for its font
        for module, name, original in before:
            setattr(module, name, original)
        LOGGER.setLevel(level)


def _matplotlib_font(font: str = "") -> Path:
    """A font that matplotlib brings along, whichever is asked for."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"

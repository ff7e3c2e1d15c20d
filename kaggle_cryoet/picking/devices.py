"""Which devices can really compute: a GPU counts only after it has done a convolution right."""

import logging

import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.precision import cpu_has_bfloat16

logger = logging.getLogger(__name__)

DEVICE_CHOICES = ("auto", "cpu", "cuda")


def choose_devices(choice: str) -> list[torch.device]:
    """Devices to work on: every GPU that passes `probe`, else the CPU.

    Parameters
    ----------
    choice
        `auto` takes the GPUs that work, or the CPU, with a warning if there are GPUs and none of them works; `cpu`;
        `cuda` insists on a GPU.

    Raises
    ------
    InputError
        If a GPU is insisted on and none works, or the choice is unknown.
    """
    if choice not in DEVICE_CHOICES:
        raise InputError(f"unknown device {choice!r}; expected one of {', '.join(DEVICE_CHOICES)}")
    if choice == "cpu":
        return [torch.device("cpu")]
    present = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    faults = {device: probe(device) for device in present}
    working = [device for device, fault in faults.items() if fault is None]
    for device, fault in faults.items():
        if fault is not None:
            logger.warning("%s cannot be used: %s", device, fault)
    if working:
        return working
    if choice == "cuda":
        raise InputError(f"no GPU works: {len(present)} present, none usable by torch {torch.__version__}")
    if present:
        logger.warning("no GPU works; predicting on the CPU, which takes many times longer")
    return [torch.device("cpu")]


def probe(device: torch.device) -> str | None:
    """What goes wrong when the device does a small 3D convolution in half precision; None if it does it right.

    `torch.cuda.is_available()` is true for GPUs for which this torch has no kernels, such as a P100.
    """
    try:
        ones = torch.ones((1, 1, 8, 8, 8), dtype=torch.float16, device=device)
        with torch.inference_mode():
            total = torch.nn.functional.conv3d(ones, torch.ones((1, 1, 3, 3, 3), dtype=torch.float16, device=device))
        value = float(total.float().sum())
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None if value == 27.0 * 6**3 else f"a convolution gave {value}, expected {27.0 * 6**3}"


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that the device computes convolutions in faster than in float32; None if there is none."""
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out on the device or on the host; PyTorch also says so by a plain RuntimeError."""
    signs = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error).lower() for sign in signs)

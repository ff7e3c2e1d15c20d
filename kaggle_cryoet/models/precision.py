"""What the processor computes networks in."""

import torch


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively; where it does not, PyTorch emulates it and is slower for it."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return probe is not None and bool(probe())

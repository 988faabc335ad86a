"""What a device can compute in."""

from __future__ import annotations

import torch

__all__ = ["has_float64"]


def has_float64(device: torch.device) -> bool:
    """Whether tensors of float64 can live on the device: not on Apple's MPS, nor on some Intel GPUs."""
    if device.type == "mps":
        return False
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return True

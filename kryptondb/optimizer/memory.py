"""How much memory a plan may count on: the setting, and no more than the device has free."""

from __future__ import annotations

from kryptondb.optimizer.context import Context


def memory_limit(context: Context, device: str) -> int:
    """Bytes for activations on a torch device.

    With `memory_limit = 'auto'` the amount is rounded down to 1 or 1.5 times a power of two: what is free changes from
    moment to moment, and the same statement should get the same plan.
    """
    limit = context.settings.memory_limit_bytes()
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        limit = min(limit, free * 9 // 10)
    return _rounded_down(limit) if context.settings.get("memory_limit") == "auto" else limit


def _rounded_down(limit: int) -> int:
    power = 1 << max(0, limit.bit_length() - 1)
    return power + power // 2 if limit >= power + power // 2 else power

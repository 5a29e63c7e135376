"""torchvision imports after the guard, whatever torch it was built for."""

from __future__ import annotations

import subprocess
import sys

import torch

from kryptondb.images import torchvision_guard


def test_torchvision_imports_in_a_fresh_process_and_its_models_run() -> None:
    program = """
import kryptondb.images.torchvision_guard
import torch, torchvision
model = torchvision.models.squeezenet1_1(weights=None).eval()
print(model(torch.zeros(1, 3, 64, 64)).shape[1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1000", done.stderr


def test_declaring_again_declares_nothing() -> None:
    assert torchvision_guard.declare_missing_operators() == ()
    assert hasattr(torch.ops.torchvision, "nms")
    assert hasattr(torch.ops.torchvision, "qnms")

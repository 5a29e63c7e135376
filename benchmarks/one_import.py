"""Captum on torchvision's VGG16, and the same with one import changed: the same attributions, many times faster.

    python -m benchmarks.one_import

Both run in one process. Ours begins cold: tracing the network and measuring the machine count, once. Then it runs
again, as for any second image.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from benchmarks.subject import build

AGREEMENT = 1e-5
TIMES = 8.0


def by_captum(network: torch.nn.Module) -> Any:
    """The object that a script of Captum's users makes."""
    from captum.attr import Occlusion  # type: ignore[import-untyped]

    return Occlusion(lambda images: network(images).softmax(1))


def with_one_import_changed(network: torch.nn.Module) -> Any:
    """The same script with one import changed."""
    from kryptondb.compat.captum import Occlusion

    return Occlusion(lambda images: network(images).softmax(1))


def main() -> None:
    """Runs both and prints what they took; ends with status 1 where they disagree or ours is not fast enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vgg16", help="a torchvision architecture (%(default)s)")
    parser.add_argument("--patch", type=int, default=16, help="pixels a side (%(default)s)")
    parser.add_argument("--stride", type=int, default=8, help="pixels (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network, _, _, image = build(options.model, 224, seed=0)
    with torch.no_grad():
        target = int(network(image).argmax())

    def timed(name: str, occlusion: Any) -> tuple[torch.Tensor, float]:
        start = time.perf_counter()
        attributions = occlusion.attribute(
            image,
            sliding_window_shapes=(3, options.patch, options.patch),
            strides=(3, options.stride, options.stride),
            target=target,
            perturbations_per_eval=16,
        )
        seconds = time.perf_counter() - start
        print(f"{name:<28}{seconds:8.1f} s", flush=True)
        return attributions, seconds

    peer, peer_seconds = timed("captum.attr", by_captum(network))
    occlusion = with_one_import_changed(network)
    ours, our_seconds = timed("kryptondb.compat.captum", occlusion)
    timed("  the next image", occlusion)
    print(f"  {occlusion.explanation}")
    difference = float((peer - ours).abs().max())
    print(f"{peer_seconds / our_seconds:.1f} times as fast, tracing included")
    print(f"attributions up to {float(peer.abs().max()):.2e}, which differ by {difference:.1e} at most")
    if difference > AGREEMENT or peer_seconds < TIMES * our_seconds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

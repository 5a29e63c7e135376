"""Files to tensors and back: decoders, sample pictures, preprocessing, occlusion fills, heat map rendering.

The names here need only numpy and Pillow. What needs torch (`preprocess`, `fills`, `torchvision_guard`) or matplotlib
(`render`, `terminal`) is imported from its own module, so that listing pictures opens fast.
"""

from __future__ import annotations

from kryptondb.images.decode import decode, from_array
from kryptondb.images.picture import Picture
from kryptondb.images.samples import Sample, list_samples, sample_path
from kryptondb.images.sources import ImageSource, find_images, is_single

__all__ = [
    "ImageSource",
    "Picture",
    "Sample",
    "decode",
    "find_images",
    "from_array",
    "is_single",
    "list_samples",
    "sample_path",
]

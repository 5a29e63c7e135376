"""Before any test imports torchvision: a torchvision without its C++ operators must still import."""

import kryptondb.images.torchvision_guard  # noqa: F401

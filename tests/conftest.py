"""Before any test: a torchvision without its C++ operators must still import, and no drawn example is timed."""

from hypothesis import HealthCheck, settings

import kryptondb.images.torchvision_guard  # noqa: F401

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

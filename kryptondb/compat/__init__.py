"""Drop-in classes: Captum's `Occlusion` and MONAI's `OcclusionSensitivity` with one import changed.

    from kryptondb.compat.captum import Occlusion                    # in place of captum.attr
    from kryptondb.compat.monai import OcclusionSensitivity          # in place of monai.visualize

Neither of the two packages is needed. What can run incrementally does; everything else runs in batches, as they do.
"""

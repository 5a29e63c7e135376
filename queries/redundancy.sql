-- Lesson 5: how much an incremental plan can save. Figure 5 of the paper, for any network.
--
--     kryptondb -f queries/redundancy.sql
--
-- A patch changes only part of each layer's output; the rest is already known. The redundancy ratio R is the work of a
-- full inference divided by the work of recomputing what changes. It depends on the architecture and the patch, not on
-- the weights, so random weights will do.

CREATE OR REPLACE MODEL vgg16 FROM torchvision('vgg16') WITH (weights => 'random');
CREATE OR REPLACE MODEL resnet18 FROM torchvision('resnet18') WITH (weights => 'random');
CREATE OR REPLACE MODEL inception_v3 FROM torchvision('inception_v3') WITH (weights => 'random');

-- The totals. `ratio` is the mean over the whole grid; `centre_ratio` has the patch at the center of the picture, which
-- is the worst case, and what the figure shows.
SELECT 'vgg16' AS network, gflops_full, gflops_incremental, ratio, centre_ratio
FROM redundancy(vgg16, patch => 16, stride => 4) WHERE layer = 'total';

SELECT 'resnet18' AS network, gflops_full, gflops_incremental, ratio, centre_ratio
FROM redundancy(resnet18, patch => 16, stride => 4) WHERE layer = 'total';

SELECT 'inception_v3' AS network, gflops_full, gflops_incremental, ratio, centre_ratio
FROM redundancy(inception_v3, patch => 16, stride => 4) WHERE layer = 'total';

-- A larger patch changes more: the figure's other axis, for VGG16.
SELECT 8 AS patch, ratio, centre_ratio FROM redundancy(vgg16, patch => 8) WHERE layer = 'total';
SELECT 32 AS patch, ratio, centre_ratio FROM redundancy(vgg16, patch => 32) WHERE layer = 'total';
SELECT 64 AS patch, ratio, centre_ratio FROM redundancy(vgg16, patch => 64) WHERE layer = 'total';

-- Layer by layer: in early layers little changes, in late ones (and the fully connected head) everything.
SELECT layer, channels, height, width, gflops_full, gflops_incremental, ratio
FROM redundancy(vgg16, patch => 16, stride => 4);

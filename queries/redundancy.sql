-- Lesson 5: what there is to gain. Figure 5 of the paper, for any network.
--
--     kryptondb -f queries/redundancy.sql
--
-- A patch changes only part of each layer's output; the rest was known before. The redundancy ratio R is the work of a
-- full inference over the work of recomputing what changes. It depends on the architecture and the patch, not on the
-- weights, so random ones do.

CREATE OR REPLACE MODEL vgg16 FROM torchvision('vgg16') WITH (weights => 'random');
CREATE OR REPLACE MODEL resnet18 FROM torchvision('resnet18') WITH (weights => 'random');
CREATE OR REPLACE MODEL inception_v3 FROM torchvision('inception_v3') WITH (weights => 'random');

-- The totals. `ratio` is the mean over the whole grid; `centre_ratio` has the patch at the centre of the picture, the
-- worst case, which is what the figure shows.
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

-- Layer by layer: early layers see a small change, late ones (and the fully connected head) see the patch everywhere.
SELECT layer, channels, height, width, gflops_full, gflops_incremental, ratio
FROM redundancy(vgg16, patch => 16, stride => 4);

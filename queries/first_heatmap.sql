-- Lesson 1: a heat map.
--
--     kryptondb -f queries/first_heatmap.sql

-- A model is a name for a network, together with what has to be done to a picture before the network sees it.
CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

DESCRIBE imagenet;

-- occlude(model, images, ...) is a table of cells, one row per position of the patch. HEATMAP collects the cells of
-- a picture and class into one map. Every option has a default: patch 16, stride 4, fill 'gray', and the class that the
-- network finds most likely. A larger stride means fewer positions: 14 x 14 here instead of 53 x 53.
SELECT HEATMAP FROM occlude(imagenet, 'sample:coffee', stride => 16);

-- PREDICTION adds what the network says about the picture with nothing covered.
SELECT HEATMAP, PREDICTION FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 32);

-- The same cells as rows. The score is the probability under the patch, the drop is base - score.
SELECT * FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 32) LIMIT 5;

-- For your own picture, put its path in the place of 'sample:coffee', such as '~/Pictures/dog.jpg'. These are the samples:
SHOW SAMPLES;

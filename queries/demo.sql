-- Which parts of this photograph make the network say "Egyptian cat"?
--
--     make demo        or        kryptondb -f queries/demo.sql
--
-- The network is a trained EfficientNet-Lite0 and the photograph is one that scikit-image ships: nothing is downloaded.

-- 1. A name for the network. R 1.8 means that full inferences would take 1.8 times as much work as the plan here.
CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- 2. A first look, in the terminal. A gray patch of 16 x 16 pixels slides over the cat in steps of 8, and the network
--    is asked again at each of the 729 positions. Orange: covering this place costs "Egyptian cat" probability. Blue:
--    covering it adds some.
SELECT HEATMAP FROM occlude(imagenet, 'sample:cat', stride => 8);

-- 3. The same experiment in steps of 4, which are the default: 2,809 positions, drawn over the photograph.
COPY (SELECT HEATMAP FROM occlude(imagenet, 'sample:cat')) TO 'out/cat.png';

-- 4. The numbers, for other tools: an Arrow file with the maps of the three likeliest classes, in steps of 16.
COPY (SELECT HEATMAP, PREDICTION FROM occlude(imagenet, 'sample:cat', stride => 16, class => TOP 3))
TO 'out/cat.arrow';

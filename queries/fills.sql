-- Lesson 4: what the patch is painted with is part of the question.
--
--     kryptondb -f queries/fills.sql
--
-- A black square on a cup of coffee is a change of its own: the network may answer to the square and not to what it
-- hides. A map that survives several fills says something about the picture.

CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- A flat colour: grey (the default) and black.
SELECT 'gray' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24);

SELECT 'black' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24, fill => 'black');

-- The mean colour of what is covered: shape and texture go, the colour stays.
SELECT 'patch_mean' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24, fill => 'patch_mean');

-- The picture itself, blurred: the details go, the coarse shape stays.
SELECT 'blur' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24, fill => 'blur');

-- Any colour, as red, green and blue from 0 to 1. This one moves the answer several times as far as grey does,
-- and much of that is the square itself.
SELECT '(1, 0, 0.8)' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24, fill => (1, 0, 0.8));

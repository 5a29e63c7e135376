-- Lesson 4: what the patch is painted with is part of the question.
--
--     kryptondb -f queries/fills.sql
--
-- A black square on a cup of coffee changes the picture in its own way: the network may react to the square, and not to
-- what it hides. A map that stays the same with several fills says something about the picture.

CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- A flat color: gray (the default) and black.
SELECT 'gray' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24);

SELECT 'black' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24, fill => 'black');

-- The mean color of what is covered: shape and texture go, the color stays.
SELECT 'patch_mean' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24, fill => 'patch_mean');

-- The picture itself, blurred: the details go, the coarse shape stays.
SELECT 'blur' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24, fill => 'blur');

-- Any color, as red, green and blue from 0 to 1. This one changes the answer several times as much as gray does, and much
-- of that is the effect of the square itself.
SELECT '(1, 0, 0.8)' AS fill, min(drop) AS least, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:coffee', patch => 32, stride => 24, fill => (1, 0, 0.8));

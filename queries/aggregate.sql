-- Lesson 8: cells are rows, so SQL's aggregates summarize them.
--
--     kryptondb -f queries/aggregate.sql

CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- How much each class depends on its most important place.
SELECT label, base, max(drop) AS most, avg(drop) AS mean, count(*) AS positions
FROM occlude(imagenet, 'sample:cat', patch => 32, stride => 32, class => TOP 3)
GROUP BY label, base
ORDER BY base DESC;

-- A profile from top to bottom: which rows of the picture matter?
SELECT y, avg(drop) AS mean, max(drop) AS most
FROM occlude(imagenet, 'sample:cat', patch => 32, stride => 32)
GROUP BY y
ORDER BY y;

-- Two pictures: the share of the base score that is lost at the worst position.
SELECT image, label, max(drop / base) AS share
FROM occlude(imagenet, ('sample:cat', 'sample:coffee'), patch => 32, stride => 48)
GROUP BY image, label
ORDER BY share DESC;

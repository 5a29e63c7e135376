-- Lesson 7: many pictures in one query.
--
--     kryptondb -f queries/batch.sql
--
-- Pictures are a path, a folder ('scans/', at any depth), a glob ('scans/**/*.png'), or a list of these. This script uses
-- a list of samples, so that it runs everywhere; put your own folder in its place. Pictures are opened one after the
-- other, and the rows of each are written as soon as it is done: a folder may hold any number of them.
--
-- A picture that cannot be read does not stop the others. It is skipped and named on standard error at the end, and the
-- exit status is 1. SET on_error = 'stop' ends the query at the first one instead.

CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- One row per picture and label.
SELECT image, label, base, max(drop) AS most, count(*) AS positions
FROM occlude(imagenet, ('sample:cat', 'sample:coffee', 'sample:rocket', 'sample:motorcycle'), patch => 32, stride => 48)
GROUP BY image, label, base;

-- One file per heat map: out/batch/coffee-967.png, ...
COPY (
    SELECT HEATMAP
    FROM occlude(imagenet, ('sample:coffee', 'sample:rocket'), patch => 32, stride => 24)
) TO 'out/batch/';

-- All cells into one Parquet file, streamed.
COPY (
    SELECT image, label, y, x, base, score, drop
    FROM occlude(imagenet, ('sample:cat', 'sample:coffee'), patch => 32, stride => 48, class => TOP 2)
) TO 'out/batch/cells.parquet';

-- A predicate on image alone is evaluated before a picture is opened.
SELECT image, y, x, drop
FROM occlude(imagenet, ('sample:cat', 'sample:coffee', 'sample:rocket'), patch => 32, stride => 48)
WHERE image = 'rocket'
ORDER BY drop DESC
LIMIT 3;

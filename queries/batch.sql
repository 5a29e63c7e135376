-- Lesson 7: many pictures in one query.
--
--     kryptondb -f queries/batch.sql
--
-- Pictures are a path, a folder ('scans/', at any depth), a glob ('scans/**/*.png'), or a list of these. A list of
-- samples stands here, so that the script runs everywhere; put a folder of yours in its place. Pictures are opened one
-- after the other and each one's rows are written as soon as it is done: a folder may hold any number.
--
-- A picture that cannot be read does not stop the others. It is left out, named on standard error at the end, and the
-- exit status is 1. SET on_error = 'stop' ends the query at the first one instead.

CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- One line a picture.
SELECT image, label, base, max(drop) AS most, count(*) AS positions
FROM occlude(imagenet, ('sample:cat', 'sample:coffee', 'sample:rocket', 'sample:motorcycle'), patch => 32, stride => 48)
GROUP BY image, label, base;

-- A file for each: out/batch/cat-285.png, ...
COPY (
    SELECT HEATMAP
    FROM occlude(imagenet, ('sample:coffee', 'sample:rocket'), patch => 32, stride => 24)
) TO 'out/batch/';

-- All cells into one Parquet file, streamed.
COPY (
    SELECT image, label, y, x, base, score, drop
    FROM occlude(imagenet, ('sample:cat', 'sample:coffee'), patch => 32, stride => 48, class => TOP 2)
) TO 'out/batch/cells.parquet';

-- A predicate on image alone is asked before a picture is opened.
SELECT image, y, x, drop
FROM occlude(imagenet, ('sample:cat', 'sample:coffee', 'sample:rocket'), patch => 32, stride => 48)
WHERE image = 'rocket'
ORDER BY drop DESC
LIMIT 3;

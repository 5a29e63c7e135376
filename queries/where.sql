-- Lesson 2: compute only what matters.
--
--     kryptondb -f queries/where.sql

CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- The five places of the cat's face that the answer depends on most. A predicate on y, x, row or col is pushed down:
-- of the 729 positions of this grid, only those that the predicate keeps are computed.
SELECT y, x, score, drop
FROM occlude(imagenet, 'sample:cat', stride => 8)
WHERE y BETWEEN 48 AND 88 AND x BETWEEN 64 AND 128
ORDER BY drop DESC
LIMIT 5;

-- The line "positions" of EXPLAIN shows how many that are.
EXPLAIN SELECT y, x, score, drop
FROM occlude(imagenet, 'sample:cat', stride => 8)
WHERE y BETWEEN 48 AND 88 AND x BETWEEN 64 AND 128
ORDER BY drop DESC
LIMIT 5;

-- A predicate on drop or score needs the answer first, so it filters what was computed.
SELECT y, x, drop
FROM occlude(imagenet, 'sample:cat', stride => 8)
WHERE y < 32 AND x < 96 AND drop < 0
ORDER BY drop
LIMIT 5;

-- A heat map has the shape of the whole grid; cells that WHERE excludes stay blank (NaN in a file).
SELECT HEATMAP
FROM occlude(imagenet, 'sample:cat', stride => 8)
WHERE y BETWEEN 32 AND 104 AND x BETWEEN 48 AND 136;

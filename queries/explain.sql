-- Lesson 6: how will it be answered, what will it cost, and why that way?
--
--     kryptondb -f queries/explain.sql

CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- The plan, without running it: the tree, its estimated cost, what was rejected, and the reason. The estimate comes from
-- the geometry of the network and from rates that were measured on this machine.
EXPLAIN SELECT HEATMAP FROM occlude(imagenet, 'sample:rocket');

-- With WHERE, fewer positions are computed.
EXPLAIN SELECT y, x, drop FROM occlude(imagenet, 'sample:rocket', class => TOP 3)
WHERE y BETWEEN 32 AND 64 AND drop > 0.05 ORDER BY drop DESC LIMIT 10;

-- ANALYZE runs the query and shows what was measured beside what was estimated.
EXPLAIN ANALYZE SELECT HEATMAP FROM occlude(imagenet, 'sample:rocket', stride => 16);

-- A hint overrides the optimizer: here full inferences, for comparison.
EXPLAIN ANALYZE SELECT HEATMAP FROM occlude(imagenet, 'sample:rocket', stride => 16) USING operator => 'full';

-- For programs: the plan as one JSON document.
EXPLAIN FORMAT json SELECT HEATMAP FROM occlude(imagenet, 'sample:rocket', stride => 16);

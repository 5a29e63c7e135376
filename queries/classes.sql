-- Lesson 3: which class?
--
--     kryptondb -f queries/classes.sql

CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- TOP 3 explains the three likeliest classes in one run: each position runs once for all of them.
SELECT HEATMAP FROM occlude(imagenet, 'sample:cat', patch => 32, stride => 16, class => TOP 3);

-- A class by its label, whether or not it is likely. Two classes show what distinguishes them: the patch at y 64, x 64
-- makes an Egyptian cat less likely (its drop is positive) and a tiger cat more likely (negative).
SELECT label, base, y, x, drop
FROM occlude(imagenet, 'sample:cat', patch => 32, stride => 32, class => ('Egyptian cat', 'tiger cat'))
WHERE y BETWEEN 32 AND 64 AND x BETWEEN 64 AND 96
ORDER BY y, x, label;

-- By its index in the network's output. With score => 'log_probability', a drop of 0.69 means that the
-- probability is halved, however small it was. That suits unlikely classes, whose probabilities hardly move.
SELECT label, base, y, x, drop
FROM occlude(imagenet, 'sample:cat', patch => 32, stride => 32, class => 282, score => 'log_probability')
WHERE y BETWEEN 32 AND 64 AND x BETWEEN 64 AND 96
ORDER BY drop DESC;

-- Lesson 10: results to look at, and to pass on.
--
--     kryptondb -f queries/report.sql
--
-- COPY draws heat maps over their pictures. The format follows the name of the file: .png is one picture, a folder has
-- one per image and class, .html is a page with all of them, .dcm a DICOM file for an archive (whose picture must come
-- from a DICOM file too).

CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

-- 1. The photograph beside its map, with lines around the places that reach a quarter and a half of the color scale. Other
--    options: opacity, colormap (one of matplotlib's), scale, size, colorbar, title, values ('drop' or 'score').
COPY (SELECT HEATMAP FROM occlude(imagenet, 'sample:cat', patch => 32, stride => 8))
TO 'out/report/cat.png' (side_by_side TRUE, contours ('25%', '50%'));

-- 2. One page for many images: open out/report/index.html in a browser. Point at a map, or move over it with the arrow
--    keys, to read score, drop and patch; sort and filter by label and confidence; press ? for the keys. The page works
--    offline and needs no other file, so it can be sent as it is.
COPY (
    SELECT HEATMAP
    FROM occlude(
        imagenet,
        ('sample:cat', 'sample:coffee', 'sample:rocket', 'sample:motorcycle'),
        patch => 32, stride => 16, class => TOP 3
    )
) TO 'out/report/index.html';

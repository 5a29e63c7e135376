-- Lesson 9: a radiograph, straight from its DICOM file.
--
--     kryptondb -f queries/chest.sql
--
-- This needs the extra "medical" and the package pydicom-data, which ships the picture. In the checkout:
--
--     pip install -c constraints.txt '.[demo,medical]' pydicom-data
--
-- 'sample:chest' is a chest radiograph of 1955 x 1841 pixels in 15 bits, stored with white as zero (MONOCHROME1). It is
-- shown as a viewer shows it: through the window that the file names, air dark, bone bright. Put your own files in its
-- place: 'study.dcm', 'study.dcm#frame=3' or 'scans/**/*.dcm'.

-- This network was trained on photographs: what it says about a chest is a guess, and the map shows what the guess rests
-- on. Put your own network in its place; no package ships one that reads radiographs.
CREATE OR REPLACE MODEL imagenet FROM pretrained('efficientnet_lite0');

SELECT HEATMAP, PREDICTION FROM occlude(imagenet, 'sample:chest', patch => 32, stride => 16);

-- The map over the radiograph.
COPY (SELECT HEATMAP FROM occlude(imagenet, 'sample:chest', patch => 32, stride => 8)) TO 'out/chest.png';

-- The same file through a narrower window, (center, width) in the units of the file (Hounsfield in a CT): other pixels,
-- another map.
COPY (
    SELECT HEATMAP FROM occlude(imagenet, 'sample:chest', patch => 32, stride => 16, window => (9000, 9000))
) TO 'out/chest-lungs.png';

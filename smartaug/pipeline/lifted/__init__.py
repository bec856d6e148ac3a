"""Lifted transforms in the pipeline.

| file | holds |
|---|---|
| `joint` | lifted transforms on batches with boxes, keypoints or images in lists |
| `beside` | what lies in the images and the dataset's transform was not given: moved, or refused |
| `share` | the share of samples that were lifted, and the warning where it is (nearly) 0 |
"""

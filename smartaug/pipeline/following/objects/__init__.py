"""Leaves with a row for each object of a sample: boxes, keypoints, and labels and masks that belong to them.

| file | holds |
|---|---|
| `leaves` | which leaves belong together, and are dropped together |
| `rows` | how they lie in a batch: read as one tensor, and written back |
| `values` | boxes and points that are none, or of another format |
| `moving` | boxes, keypoints and what goes with them, moved |
"""

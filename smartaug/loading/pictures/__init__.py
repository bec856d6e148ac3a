"""Pictures of batches, with the operations that each sample received in words; drawn by matplotlib, which is optional.

| file | holds |
|---|---|
| `show` | a batch before and after its stages: ``loader.show()`` and `smartaug.plots.batch` |
| `words` | the operations of a sample, with their magnitudes and units |
| `grid` | grids of images, and the figure that all pictures are drawn on |
"""

"""Decoding and cropping of JPEG files that a dataset opens with Pillow, in the worker.

What: while a loader with ``lift=True`` reads samples, ``PIL.Image.open`` gives JPEG pictures that are decoded by a
faster library, and that torchvision's and timm's crops and resizes cut out of one array and resample on uint8. All
other code sees an ordinary PIL image with Pillow's own pixels. When: folders and tables of JPEG files with
``RandomResizedCrop`` or ``Resize``, for which decoding is most of the work. Cost: nothing for other files and datasets.
See "JPEG files" in ``benchmarks/loader.py``. Reference: Pillow's ``Image.resize``, which the resampling follows.

| file | holds |
|---|---|
| `settings` | `Lift`, the settings of ``lift=`` |
| `decoders` | the functions that read a JPEG file, by several libraries, and the check that their pixels are Pillow's |
| `opening` | which pictures of ``Image.open`` are decoded so, and where; their counts |
| `opened`, `picture` | an opened JPEG file; its pixels, as a PIL image |
| `encoded` | the bytes of a file, decoded when pixels are asked for, smaller or in part where that may be |
| `region` | parts of files, decoded without the rest |
| `parts` | parts of files that workers hand on, alone and as a batch |
| `on_device` | the decoding of such a batch, on CUDA by nvJPEG |
| `resampling` | crops and resizes of torchvision and timm, on the array |
"""

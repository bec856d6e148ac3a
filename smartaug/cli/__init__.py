"""The command ``smartaug``: one folder a subcommand, imported when it is called; plots and logs.

| file | holds |
|---|---|
| `main` | the command line |
| `demo/`, `inspect/`, `bench/` | the subcommands |
| `plots`, `recorder`, `report_page` | `smartaug.plots`: pictures of batches, and the page about a training run |
| `logs` | `smartaug.logs`: figures for TensorBoard, Weights & Biases, Lightning and transformers |
| `clock` | where the time of a training loop goes |
| `folder`, `named` | images in a folder; the user's own objects by ``SCRIPT.py:NAME`` |
"""

"""The reference backend: every segment, every dtype, every device. `run` executes; one file a kind of segment."""

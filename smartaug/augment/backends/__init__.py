"""One module per way to execute a plan; `torch` is the reference that runs everywhere."""

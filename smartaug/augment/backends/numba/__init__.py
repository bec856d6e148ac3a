"""Compiled for the CPU: `run` lays out the parameters, `program` is the compiled loop, one file a kind of segment."""

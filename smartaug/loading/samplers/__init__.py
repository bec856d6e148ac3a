"""Samplers: `coreset` has `CoresetSampler`, `share` a given share of generated samples in every batch.

`settings` tells what an order depends on, for saved states.
"""

"""Warnings that are smartaug's own."""


class NoEffectWarning(UserWarning):
    """Something was asked for and nothing came of it: weights no loss read, a coreset of everything."""

"""One file a claim; results are committed as JSON beside them."""

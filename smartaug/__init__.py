"""smartaug."""

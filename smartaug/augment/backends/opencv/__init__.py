"""OpenCV itself, one picture after the other on the CPU: operations that the lift takes from albumentations."""

"""OpenCV, called image by image on the CPU: operations that `lift.albumentations` takes from albumentations."""

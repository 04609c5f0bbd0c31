"""Demonstrations on disk and in batches: LeRobotDataset v3.0 in and out, cache, loader, augmentation."""

"""Classifiers whose texts may leave before the last layer: training, thresholds, staged graphs."""

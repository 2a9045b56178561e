"""Scores of predictions: masks, boxes, phenomena."""

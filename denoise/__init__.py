"""Denoising from the sensor's physics."""

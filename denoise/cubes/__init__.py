"""Hyperspectral cubes: what they hold, their noise, what they are made of."""

"""The engine: tensors and cards; it knows no file, no camera and no method by name."""

from denoise.engine.engine import Engine
from denoise.engine.plan import Plan

__all__ = ["Engine", "Plan"]

"""How a sensor is measured: frames in, a camera profile and its evidence out."""

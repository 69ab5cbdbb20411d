"""stub"""
import numpy as np
def draw_devices(chest, rng):
    return np.float32(0)

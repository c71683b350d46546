"""DARE (Yu et al. 2023, arXiv:2311.03099) before sign election: drop entries at random, rescale the rest.

Rescaled by 1/density, as in the paper, so that the mean over seeds is the undropped task vector. The random
numbers depend on seed, donor's place and tensor name: neither order nor sharding changes the result.
"""

import hashlib

import numpy as np

from stages.lib.merging.signs import agreeing_mean
from stages.lib.merging.task_vectors import Float32
from stages.lib.params import DareTies


def drop(delta: Float32, density: float, seed: int, place: int, name: str) -> Float32:
    """Keep each entry with probability `density`, divided by `density`; zero the others."""
    digest = hashlib.sha256(f"{seed}\x1f{place}\x1f{name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))
    kept = generator.random(delta.shape, dtype=np.float32) < density
    return np.where(kept, delta / np.float32(density), np.float32(0))


def merge(deltas: list[Float32], weights: list[float], recipe: DareTies, name: str) -> Float32:
    """DARE-TIES of the task vectors, times `scale`."""
    dropped = [drop(delta, recipe.density, recipe.seed, place, name) for place, delta in enumerate(deltas)]
    return np.float32(recipe.scale) * agreeing_mean(dropped, weights)

"""Merge methods, one a file, named as in `params.yaml`: `merge(deltas, weights, recipe, name)` -> tensor.

A method gets the task vectors of one weight matrix (float32, all of one shape), the donors' weights in the
same order, the recipe's parameters and the tensor's name, and returns what is added to the base (float32).
"""

"""Merge methods, one a file, named as in `params.yaml`: `merge(updates, recipe, target)` -> tensor.

A method gets the task vectors of one tensor with their weights (`Update`), the recipe and which tensor it is
(`Target`), and returns what is added to the base (float32). It leaves the task vectors as they are.
"""

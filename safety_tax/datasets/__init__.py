"""Readers, one dataset a file, named as in `params.yaml`: a source's files -> items."""

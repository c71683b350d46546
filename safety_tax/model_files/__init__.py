"""A model's files as they are published, translated into what the pinned Transformers reads, and checked."""

"""Texts and their token ids: a chat template rendered, what surrounds a text, and which tokens end an answer."""

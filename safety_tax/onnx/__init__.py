"""A model as an ONNX graph, its weights bound to it, and the proof that it is the same model."""

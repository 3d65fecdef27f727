"""Prune any ONNX model: find what can go together, remove it, and prove that nothing else changed."""

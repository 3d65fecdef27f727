"""Tests of ``onnxprune.recover``."""

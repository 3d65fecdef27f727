"""The history of a model: a folder of models and data, and the tree of steps that were made of them."""

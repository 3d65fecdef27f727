"""What units look at: feature maps, and attributions of units and classes to the input.

::

    view = look_at(model, couple(model))
    layer = find_layer(view, "conv4")
    feature_maps(view, data, layer, rows=[0, 5]).values            # (2, units, height, width)
    attribute(view, data, layer, method="guided", rows=[0, 5])     # image-sized, for each filter

    layers        which tensor shows a layer's units, and where in it they lie
    sources       where attributions end: inputs, and embeddings of tokens
    instances     chosen rows of a dataset
    maps          what units put out
    gradients     the gradient graph of a layer, for many (instance, unit) at a time
    attribution   gradient, gradient times input, guided back-propagation, integrated gradients
    display       arrays as the pictures they came from: layout and preprocessing undone
    pictures      arrays as grey or coloured pixels, and grids of them as PNG
    compared      how much maps changed, and their mean over many instances
    outcome       what comes out in the end: probabilities of classes, or numbers
    sheet         the maps of all units as one picture with a palette
"""

from onnxprune.explain.attribution import METHODS, Attribution, Histogram, attribute, suggest_method
from onnxprune.explain.compared import map_change, mean_maps
from onnxprune.explain.display import input_pictures, is_pictures, to_pictures
from onnxprune.explain.instances import chosen_rows, rows_of_class
from onnxprune.explain.layers import Layer, View, class_layer, default_layer, find_layer, look_at
from onnxprune.explain.maps import FeatureMaps, UnitStatistics, feature_maps
from onnxprune.explain.outcome import Outcome, outcome, output_change
from onnxprune.explain.pictures import grid, pixels, save_png

__all__ = [
    "METHODS",
    "Attribution",
    "FeatureMaps",
    "Histogram",
    "Layer",
    "Outcome",
    "UnitStatistics",
    "View",
    "attribute",
    "chosen_rows",
    "class_layer",
    "default_layer",
    "feature_maps",
    "find_layer",
    "grid",
    "input_pictures",
    "is_pictures",
    "look_at",
    "map_change",
    "mean_maps",
    "outcome",
    "output_change",
    "pixels",
    "rows_of_class",
    "save_png",
    "suggest_method",
    "to_pictures",
]

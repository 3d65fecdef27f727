"""Datasets of all kinds behind one face: columns of rows, read batch by batch with constant memory.

::

    opening        files, folders, arrays, Python sources -> Dataset
    ├── settings   dataset.toml
    ├── archive    .npy and .npz, read in place
    ├── folders    a folder of arrays, or of images
    ├── images     a column of image files, which decoding turns into pixels when they are asked for
    └── samples    (inputs, label) from any iterable
    fitting        a dataset held against a model, prepared as it takes them
    dataset        Dataset, its batches and its subsets
    rows           what a column is
"""

from onnxprune.data.dataset import Batch, Dataset, batches, check_finite
from onnxprune.data.fitting import fit
from onnxprune.data.opening import SPLITS, Source, open_calibration, open_dataset, splits_of
from onnxprune.data.prepare import Preprocess
from onnxprune.data.rows import Rows
from onnxprune.data.settings import parse_settings

__all__ = [
    "SPLITS",
    "Batch",
    "Dataset",
    "Preprocess",
    "Rows",
    "Source",
    "batches",
    "check_finite",
    "fit",
    "open_calibration",
    "open_dataset",
    "parse_settings",
    "splits_of",
]

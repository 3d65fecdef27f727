"""Strings, and losses of training graphs: nothing of a network can be removed through them."""

from __future__ import annotations

from onnxprune.ops.contrib import stays
from onnxprune.ops.rule import Role, Rule, zero_lost
from onnxprune.ops.text_gradients import expand_cross_entropy, expand_likelihood

TEXT = "it works on text"
LOSS = "a loss compares all classes"
D, INDEX = Role.DATA, Role.INDEX

RULES = (
    *(
        Rule(op, stays(TEXT), (D,), zero_lost)
        for op in ("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer")
    ),
    *(
        Rule(op, stays(LOSS), (D, INDEX, D), zero_lost, expand=expand)
        for op, expand in (
            ("NegativeLogLikelihoodLoss", expand_likelihood),
            ("SoftmaxCrossEntropyLoss", expand_cross_entropy),
        )
    ),
)

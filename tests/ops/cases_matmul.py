"""Products of matrices in forms that matter to gradients only: every way of writing an Einsum, fused transposes."""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, MS, Case, Net, flat

__all__ = ["GRADIENT_CASES"]

Shape = Sequence[int | str]


def operands(op: str, *shapes: Shape, domain: str = "", **attrs: object) -> Case:
    """The operator on graph inputs of these shapes."""

    def build() -> Model:
        net = Net()
        inputs = [net.input(shape, name=f"x{k}") for k, shape in enumerate(shapes)]
        return net.model(net.op(op, *inputs, domain=domain, **attrs))

    return Case(build)


def einsum(equation: str, *shapes: Shape) -> Case:
    return operands("Einsum", *shapes, equation=equation)


GRADIENT_CASES = {
    ("", "Einsum"): [
        einsum("ij->ji", (3, 4)),
        einsum("ij", ("n", 4)),
        einsum("ij->i", ("n", 4)),
        einsum("ij->", ("n", 4)),
        einsum("ii->i", (3, 3)),
        einsum("ii", (3, 3)),
        einsum("iij->ij", (3, 3, 2)),
        einsum("iij,j->i", ("n", "n", 2), (2,)),
        einsum("ij,jk", (3, 4), (4, 2)),
        einsum("ij,kl->il", (3, 4), (5, 2)),
        einsum("ij,ij->j", ("n", 4), ("n", 4)),
        einsum("ij,ij->", ("n", 4), ("n", 4)),
        einsum("i,j->ij", (3,), ("n",)),
        einsum("...ij,...jk->...ik", ("n", 1, 3, 4), (1, 2, 4, 5)),
        einsum("...i->...", ("n", 2, 3)),
        einsum("ij,jk,kl->il", ("n", 3), (3, 4), (4, 2)),
        einsum("bij,bjk->bik", ("b", 3, 4), (1, 4, 2)),
    ],
    (MS, "FusedMatMul"): [
        operands("FusedMatMul", (2, 3, 4), (2, 3, 5), domain=MS, transA=1, alpha=0.5),
        operands("FusedMatMul", ("n", 3, 4), ("n", 5, 4), domain=MS, transB=1),
        operands("FusedMatMul", (3, 2, 4), (2, 4, 5), domain=MS, transBatchA=1),
        operands("FusedMatMul", (2, 3, 4), (4, 2, 5), domain=MS, transBatchB=1),
        operands("FusedMatMul", (4, 2, 3), (5, 2, 4), domain=MS, transA=1, transB=1, transBatchA=1, transBatchB=1),
    ],
    (MS, "FusedGemm"): [
        flat(lambda net, h: net.op("FusedGemm", h, net.param(HIDDEN, 10), domain=MS, activation="Tanh"), after=10),
        operands("FusedGemm", (3, 4), (3, 5), (5,), domain=MS, transA=1, alpha=0.5, beta=2.0, activation="Sigmoid"),
        operands("FusedGemm", (3, 4), (4, 5), (3, 1), domain=MS, activation="LeakyRelu", activation_alpha=0.25),
    ],
}

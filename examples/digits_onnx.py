"""Write a small classifier of the digits as an ONNX file: python digits_onnx.py digits.onnx"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression


def main(path: str) -> None:
    """Fit a linear classifier and write its matrix and bias; inputs are pixels from 0 to 1, ``[batch, 1, 8, 8]``."""
    digits = load_digits()
    model = LogisticRegression(max_iter=50, C=0.1).fit(digits.data / 16, digits.target)
    weights = {"weight": model.coef_.astype(np.float32), "bias": model.intercept_.astype(np.float32)}
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


if __name__ == "__main__":
    main(sys.argv[1])

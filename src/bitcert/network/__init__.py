"""Capture: a torch module as data (architecture) and named float32 tensors (parameters).

The only package that knows ``torch.export`` and ATen operators. Everything here either understands a model
completely or refuses it, naming every part it does not understand.
"""

from bitcert.network.architecture import Architecture, WeightLayer
from bitcert.network.capturing import Model, accepted_example, capture
from bitcert.network.load import LoadedModel, is_model_file, load_model, read_state_dict
from bitcert.network.modules import as_module
from bitcert.network.network import CaptureReport, Network, Predictor
from bitcert.network.nodes import Node, ParameterSpec
from bitcert.network.opaque import OpaqueModel, capture_opaque
from bitcert.network.plan import Plan, estimate_plan, operations_in_words, operations_per_sample

__all__ = [
    "Architecture",
    "CaptureReport",
    "LoadedModel",
    "Model",
    "Network",
    "Node",
    "OpaqueModel",
    "ParameterSpec",
    "Plan",
    "Predictor",
    "WeightLayer",
    "accepted_example",
    "as_module",
    "capture",
    "capture_opaque",
    "estimate_plan",
    "is_model_file",
    "load_model",
    "operations_in_words",
    "operations_per_sample",
    "read_state_dict",
]

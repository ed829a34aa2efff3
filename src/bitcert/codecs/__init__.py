"""CODECS: the compressions of the papers, each with ``encode``, ``decode`` and the paper's ``theory``.

In the order of docs/theory.md 3.2: projections, low rank, linear separators, pruning and sketches, tickets, heavy
tails, random subspaces, quantisation; then how they are chosen, combined and tried.
"""

from bitcert.codecs.base import Codec, Layer, LayerCodec, Rest, Selection
from bitcert.codecs.best import encode_best
from bitcert.codecs.convolution_project import ConvolutionProject
from bitcert.codecs.heavy_tail import HeavyTail
from bitcert.codecs.lottery import LotteryTicket
from bitcert.codecs.magnitude_pruning import MagnitudePruning, RandomPruning
from bitcert.codecs.mask import RandomNetworkMask
from bitcert.codecs.matrix_project import MatrixProject
from bitcert.codecs.per_layer import PerLayer, Rule
from bitcert.codecs.quantise import Exact, Quantise, TunedQuantise
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.random_subspace import RandomSubspace
from bitcert.codecs.registry import CODECS, codec_from
from bitcert.codecs.sparse_sketch import SparseSketch
from bitcert.codecs.truncated_svd import TruncatedSVD
from bitcert.codecs.vector_compress import VectorCompress
from bitcert.codecs.vector_project import VectorProject
from bitcert.theory.formulas.cushions import Cushions
from bitcert.theory.value import Condition, LayerTheory, Theory

__all__ = [
    "CODECS",
    "Codec",
    "Condition",
    "ConvolutionProject",
    "Cushions",
    "Exact",
    "HeavyTail",
    "Layer",
    "LayerCodec",
    "LayerTheory",
    "LotteryTicket",
    "MagnitudePruning",
    "MatrixProject",
    "PerLayer",
    "Quantise",
    "RandomNetworkMask",
    "RandomPruning",
    "RandomSubspace",
    "Rest",
    "Rule",
    "Selection",
    "SparseSketch",
    "Theory",
    "TruncatedSVD",
    "TunedQuantise",
    "Uniform",
    "VectorCompress",
    "VectorProject",
    "codec_from",
    "encode_best",
]

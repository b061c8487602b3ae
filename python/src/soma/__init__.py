"""The network's score, PyTorch and Flax twins of the model, an API client, and training logs.

Importing `soma` imports neither torch nor jax: the twins are `soma.torch` and `soma.flax`.
"""

from soma import track
from soma.architecture import NANO, V1, Architecture
from soma.client import AsyncClient, Client
from soma.data import Corpus
from soma.errors import ApiError, VerifyError, WrongHash
from soma.native import Model, NativeScore, Trainer
from soma.recipe import Recipe
from soma.score import NonFinite, Score, ScoreError, ZeroEmbedding
from soma.sigreg import seed_of
from soma.verifier import Verifier
from soma.weights import WeightsError

__all__ = [
    "NANO",
    "V1",
    "ApiError",
    "Architecture",
    "AsyncClient",
    "Client",
    "Corpus",
    "Model",
    "NativeScore",
    "NonFinite",
    "Recipe",
    "Score",
    "ScoreError",
    "Trainer",
    "Verifier",
    "VerifyError",
    "WeightsError",
    "WrongHash",
    "ZeroEmbedding",
    "seed_of",
    "track",
]

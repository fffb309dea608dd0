"""Training: `fit`, `predict`, `evaluate`, callbacks, truncated back-propagation through time."""

from .callbacks import Callback, EarlyStopping
from .history import History
from .loop import evaluate, fit, predict
from .sequence import fit_sequence

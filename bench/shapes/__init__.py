"""The shapes of real networks, as data."""

from .convolutions import NETWORKS, TABLE, Convolution
from .others import POOLS, PRODUCTS, RECURRENCES

"""The shapes of real networks, as data."""

from .convolutions import NETWORKS, TABLE, Convolution
from .elementwise import ACTIVATIONS, LOSSES, NORMS, STEPS, Images, Rows, Step
from .networks import INFERENCE, TRAINING, Network
from .pools import POOLS, Pool
from .products import PRODUCTS, Product
from .recurrences import RECURRENCES, Recurrence

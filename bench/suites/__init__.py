"""What compare.py can compare: families of functions, their shapes, each library's way to call them."""

from .convolution import Convolutions, ConvolutionsInOrder
from .layers import Activations, Linears, Norms, Pools
from .networks import Networks, TrainingSteps
from .recurrent import Recurrences
from .suite import Suite
from .tiny import Tiny
from .training import Losses, Optimizers

SUITES: dict[str, Suite] = {
    "forward": Convolutions(),
    "backward": Convolutions(backward=True),
    "order": ConvolutionsInOrder(),
    "pool": Pools(),
    "pool_backward": Pools(backward=True),
    "recurrent": Recurrences(),
    "recurrent_backward": Recurrences(backward=True),
    "linear": Linears(),
    "linear_backward": Linears(backward=True),
    "activation": Activations(),
    "activation_backward": Activations(backward=True),
    "norm": Norms(),
    "optim": Optimizers(),
    "loss": Losses(),
    "tiny": Tiny(),
    "networks": Networks(),
    "training": TrainingSteps(),
}

"""The error of a file that is whole, but holds what is not read."""


class Refusal(ValueError):
    """What the file does, as the rest of a sentence that begins with its name."""

"""Names that a package imports when they are first asked for (PEP 562)."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def late(namespace: dict[str, Any], names: Mapping[str, Sequence[str]]) -> tuple[
        Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Parameters
    ----------
    namespace : dict
        The package's globals; a name is looked up once and kept here.
    names : {submodule: names of it}
        What the package has, too. A submodule is one of the names itself, and must have a name of its own:
        whoever imports it sets that name in the package.
    """
    package = namespace["__name__"]
    homes = {name: module for module, its in names.items() for name in (module, *its)}

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{home}")
        namespace[name] = module if name == home else getattr(module, name)
        return namespace[name]

    return get, lambda: sorted({*namespace, *homes})

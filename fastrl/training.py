"""The former name of `fastrl.runs`; scripts that import from it work, and are told of the new one."""

import importlib
import pkgutil
import sys
import warnings

from fastrl import runs

warnings.warn("fastrl.training is fastrl.runs now; import from there", DeprecationWarning, stacklevel=2)
__path__: list[str] = []  # a package, all of whose modules are those of `fastrl.runs`
for _module in pkgutil.iter_modules(runs.__path__):
    sys.modules[f"{__name__}.{_module.name}"] = importlib.import_module(f"{runs.__name__}.{_module.name}")

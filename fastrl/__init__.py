"""fastrl: reinforcement learning with memory and maximum-a-posteriori methods, on a compiled core.

Importing the package is cheap on purpose: nothing here imports torch, an environment library or the native
ops.
Import what you use: `fastrl.ops`, `fastrl.envs`, `fastrl.trainers.vmpo.trainer`, ...
"""

__version__ = "0.1.0"

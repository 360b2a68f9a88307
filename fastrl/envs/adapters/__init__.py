"""Simulators as a `VectorEnv`: EnvPool, Gymnasium, and objects and factories of a user's own."""

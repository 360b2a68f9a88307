"""Entries of EnvPool's dict observations that are left out unless `obs_keys` asks for them.

EnvPool gives every task of a dm_control domain the union of the domain's observations, in which what is not
the task's own stays 0; and tasks of MuJoCo Playground show beside the policy's observation what only a critic
may see.
"""

from __future__ import annotations

import re

import gymnasium as gym

# entries that dm_control 1.0.34's own tasks do not have, by EnvPool's ids; every other task has the same
# entries in both
_NOT_IN_DM_CONTROL = {
    r"Dog(Stand|Walk|Trot|Run)-v1": ("ball_state", "target_position"),
    r"FingerSpin-v1": ("dist_to_target", "target_position"),
    r"FishUpright-v1": ("target",),
    r"Humanoid(Stand|Walk|Run)-v1": ("position",),
    r"HumanoidRunPureState-v1": (
        "com_velocity",
        "extremities",
        "head_height",
        "joint_angles",
        "torso_vertical",
    ),
    r"Quadruped(Walk|Run)-v1": ("ball_state", "origin", "rangefinder", "target_position"),
    r"QuadrupedEscape-v1": ("ball_state", "target_position"),
    r"QuadrupedFetch-v1": ("origin", "rangefinder"),
}
PRIVILEGED = "privileged_state"


def left_out(env_id: str, space: gym.Space) -> tuple[str, ...]:
    """Entries of EnvPool's observation space that a policy does not see by default; mostly none."""
    if not isinstance(space, gym.spaces.Dict):
        return ()
    for pattern, entries in _NOT_IN_DM_CONTROL.items():
        if re.fullmatch(pattern, env_id):
            return tuple(entry for entry in entries if entry in space.spaces)
    return (PRIVILEGED,) if PRIVILEGED in space.spaces and len(space.spaces) > 1 else ()


def why_left_out(env_id: str) -> str:
    """Completes "what is left out ..."."""
    task = any(re.fullmatch(pattern, env_id) for pattern in _NOT_IN_DM_CONTROL)
    return "are not in dm_control's task" if task else "a policy is not meant to see"


def default_space(env_id: str, space: gym.Space) -> gym.Space:
    """The space without `left_out`."""
    out = left_out(env_id, space)
    if not out:
        return space
    assert isinstance(space, gym.spaces.Dict)
    return gym.spaces.Dict({key: part for key, part in space.spaces.items() if key not in out})

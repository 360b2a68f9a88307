"""Estimators over a rollout: `advantage` for the policy, `value` for the targets of the value function."""

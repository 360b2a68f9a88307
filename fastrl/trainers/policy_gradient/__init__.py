"""VanillaPG, A2C, SurrogatePG, PPO, and PPO with an adaptive KL penalty: one trainer, a learner for each."""

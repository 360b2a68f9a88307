"""PPO with a Transformer-XL memory of the episode."""

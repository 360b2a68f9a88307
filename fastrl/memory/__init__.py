"""Policies that remember: networks, acting, what a rollout keeps of their past, and reading it to learn."""

"""The policy-gradient toolkit: agents put together from models, optimisers, batchers and estimators, all of
which can be replaced."""

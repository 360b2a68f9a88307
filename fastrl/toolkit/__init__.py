"""The policy-gradient toolkit: agents of models, optimisers, batchers and estimators, each replaceable."""

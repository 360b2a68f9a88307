"""Maximum a posteriori policy optimisation from replayed sequences."""

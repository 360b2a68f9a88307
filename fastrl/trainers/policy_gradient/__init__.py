"""The policy-gradient toolkit behind the command line: one trainer for all its models."""

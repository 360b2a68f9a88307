"""The command line: a module for each command, with `run(arguments) -> exit code`, imported when called."""

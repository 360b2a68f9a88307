"""The command line. Each command is a module with `run(arguments) -> exit code`, imported only when it is
called."""

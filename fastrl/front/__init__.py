"""The front door: training in one call, a class for each algorithm, and policies to act with.

`import fastrl` gives these names out; nothing here is imported before it is asked for.
"""

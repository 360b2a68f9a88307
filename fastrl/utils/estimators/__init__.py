"""The documented names of `fastrl.toolkit.utils.estimators`."""

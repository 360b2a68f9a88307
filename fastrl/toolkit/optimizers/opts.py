"""The optimisers: of one model, of several together, and several one behind the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastrl.errors import SettingError
from fastrl.toolkit.optimizers.base_opt import BaseOpt


class SingleOpt(BaseOpt):
    """Trains one model.

    Args:
        model: of `fastrl.models`.
        kwargs: settings of `BaseOpt`.
    """

    def __init__(self, model: Any, **kwargs: Any) -> None:
        super().__init__([model], **kwargs)

    @property
    def name(self) -> str:
        return f"{type(self).__name__}/{self.models[0].name}"


class JointOpt(BaseOpt):
    """Trains models with the sum of their losses: a gradient step moves all of them, a shared body once.

    Args:
        models: of `fastrl.models`.
        kwargs: settings of `BaseOpt`.
    """

    def __init__(self, models: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(models, **kwargs)

    @property
    def name(self) -> str:
        return type(self).__name__


class ListOpt:
    """Optimisers that learn from the same batch one behind the other, each with settings of its own.

    Args:
        opts: the optimisers.

    Raises:
        SettingError: two of them train the same parameter; a shared body needs a `JointOpt`.
    """

    def __init__(self, opts: Sequence[BaseOpt]) -> None:
        self.opts = list(opts)
        own = [
            {id(p) for model in opt.models for p in model.parameters() if p.requires_grad}
            for opt in self.opts
        ]
        if len(set().union(*own)) < sum(map(len, own)):
            # each optimiser has averages of its own, and would move the parameters into its own memory at
            # each of its updates
            raise SettingError(
                "opts train a parameter twice: models that share a body belong into one JointOpt"
            )

    @property
    def models(self) -> list[Any]:
        """The models of all optimisers."""
        return [model for opt in self.opts for model in opt.models]

    def follow(self) -> None:
        """See `BaseOpt.follow`."""
        for opt in self.opts:
            opt.follow()

    def learn_from_batch(self, batch: Any, step: int) -> None:
        """Let each optimiser learn from the batch; see `BaseOpt.learn_from_batch`."""
        for opt in self.opts:
            opt.learn_from_batch(batch, step)

    def write_logs(self, logger: Any) -> None:
        """The logs of each."""
        for opt in self.opts:
            opt.write_logs(logger)

    def state_dict(self) -> dict[str, Any]:
        """The states of all, by position."""
        return {str(position): opt.state_dict() for position, opt in enumerate(self.opts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""
        for position, opt in enumerate(self.opts):
            opt.load_state_dict(state[str(position)])

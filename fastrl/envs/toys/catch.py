"""Catch a falling ball, seen as pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.toys.dynamics import ToyDynamics, require_size
from fastrl.errors import SettingError

LARGEST_BOARD = 64  # cells on a side
LARGEST_CELL = 16  # pixels on a side


class CatchPixels(ToyDynamics):
    """A ball falls a row per step; a paddle in the last row moves left, stays or moves right.

    The reward is 1 where the paddle is below the ball when it reaches the last row, −1 where it is not; then
    the episode ends. Observations are bytes [side, side, 1]: 255 where ball and paddle are, 0 elsewhere.
    Optimum: 1.

    Args:
        seeds: one per column.
        cells: columns and rows of the board, an odd number of at least 3; the paddle starts in the middle.
        cell_pixels: pixels on a side of a cell; side = cells · cell_pixels.
        max_episode_steps: a time limit besides.
    """

    action = ActionSpec.discrete(3)
    obs_dtype = torch.uint8
    optimal_return = 1.0
    _state = ("elapsed", "ball", "paddle")

    def __init__(
        self,
        seeds: Sequence[int],
        *,
        cells: int = 9,
        cell_pixels: int = 4,
        max_episode_steps: int | None = None,
    ) -> None:
        super().__init__(seeds, max_episode_steps=max_episode_steps)
        require_size("cells", cells, LARGEST_BOARD)
        require_size("cell_pixels", cell_pixels, LARGEST_CELL)
        if cells < 3 or cells % 2 == 0:
            raise SettingError(f"cells must be an odd number of at least 3, got {cells}")
        self.cells, self.cell_pixels = int(cells), int(cell_pixels)
        side = self.cells * self.cell_pixels
        self.obs_shape = (side, side, 1)
        if max_episode_steps is not None and max_episode_steps < cells - 1:
            self.optimal_return = 0.0  # the ball never lands
        self.ball = np.zeros(self.num_envs, np.int64)
        self.paddle = np.full(self.num_envs, self.cells // 2)

    def _begin(self, columns: np.ndarray) -> None:
        drawn = (self.random.uniform(columns) * self.cells).astype(np.int64)
        self.ball = np.where(columns, drawn, self.ball)
        self.paddle = np.where(columns, self.cells // 2, self.paddle)

    def _move(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moved = np.clip(self.paddle + actions - 1, 0, self.cells - 1)
        self.paddle = np.where(columns, moved, self.paddle)
        landed = self.elapsed >= self.cells - 1
        reward = np.where(landed, np.where(self.paddle == self.ball, 1.0, -1.0), 0.0)
        return reward, landed

    def observe(self) -> np.ndarray:
        """Pictures uint8 [N, side, side, 1]."""
        if ((self.ball < 0) | (self.paddle < 0)).any():
            raise IndexError("a column below 0")
        board = np.zeros((self.num_envs, self.cells, self.cells), np.uint8)
        rows = np.arange(self.num_envs)
        board[rows, np.minimum(self.elapsed, self.cells - 1), self.ball] = 255
        board[rows, self.cells - 1, self.paddle] = 255
        return board.repeat(self.cell_pixels, 1).repeat(self.cell_pixels, 2)[..., None]

"""A device that holds so many bytes and raises when it is asked for more, as a GPU does, for tests without one."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Device(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and refuses to hold more than `limit`."""

    def __init__(self, weights: int, limit: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.most = weights
        self._limit = limit
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        inputs = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        before = self.alive
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf, inputs)
        if self.alive > before and self._limit is not None and self.alive > self._limit:
            raise torch.OutOfMemoryError(f"{self.alive} bytes are more than {self._limit}")
        return result

    def _count(self, tensor: Tensor, inputs: set[int]) -> None:
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place not in self._users and place in inputs:
            return  # a view of what was there before, such as a weight
        if not self._users[place]:
            self.alive += size
            self.most = max(self.most, self.alive)
        self._users[place] += 1
        weakref.finalize(tensor, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._users[place] -= 1
        if not self._users[place]:
            del self._users[place]
            self.alive -= size

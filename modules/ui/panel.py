"""Places every declared parameter exactly once; knows neither the tabs nor what happens to the values."""

from __future__ import annotations

from typing import Any

from gradio.components import Component

from modules.parameters import GenerationParameters, Leaf, leaves
from modules.ui.components import Wording, component


class LayoutError(RuntimeError):
    """A parameter is placed twice, never, or does not exist: a mistake in the page's code, found when it is built."""


class Panel:
    """The parameters on their way into the page, with the values they show at first."""

    def __init__(self, values: GenerationParameters, wording: Wording) -> None:
        self.values = values
        self.wording = wording
        self._leaves = {leaf.path: leaf for leaf in leaves()}
        self._placed: dict[str, Component] = {}

    def place(self, path: str) -> Component:
        """Make the component of this parameter, here and now in Gradio's layout."""
        if path not in self._leaves:
            raise LayoutError(f"there is no parameter {path}")
        if path in self._placed:
            raise LayoutError(f"{path} is placed twice")
        made = component(self._leaves[path], self.values.get(path), self.wording)
        self._placed[path] = made
        return made

    def place_remaining(self) -> None:
        """Place what nobody has placed yet, in order of declaration."""
        for leaf in self.missing():
            self.place(leaf.path)

    def missing(self) -> list[Leaf]:
        """The parameters that are not on the page yet."""
        return [leaf for path, leaf in self._leaves.items() if path not in self._placed]

    def get(self, path: str) -> Any:
        """The component of a placed parameter; untyped, because Gradio adds the events of a component when it runs."""
        return self._placed[path]

    def ctrls(self) -> list[Any]:
        """All components in order of declaration; ``LayoutError`` names those that were never placed."""
        if missing := self.missing():
            raise LayoutError(f"never placed: {', '.join(leaf.path for leaf in missing)}")
        return [self._placed[path] for path in self._leaves]

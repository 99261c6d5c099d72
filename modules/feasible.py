"""Whether something can be made of parameters, asked before they are queued; knows no queue and no page."""

from __future__ import annotations

from dataclasses import dataclass, replace

from modules.files import ModelFiles, check_base_model
from modules.parameters import GenerationParameters
from modules.plan import ImageJob, mode_loras, plan
from modules.plot import Axis, Plot, PlotError
from modules.prompt_list import MAX_SHOWN, PromptList, one_task, shortened
from modules.prompts import Sources

SILENT = {"advanced.save_metadata_to_images": False}


@dataclass(frozen=True)
class Feasible:
    """What can be made with these checkpoints and sources. Raises ``ValueError`` with a sentence.

    ``metadata``: whether picture files may tell how they were made.
    """

    checkpoints: ModelFiles
    sources: Sources
    metadata: bool = True

    def task(self, parameters: GenerationParameters) -> GenerationParameters:
        """The parameters, silent where files must be, if a task can be made of them."""
        one_task(parameters)
        facts = self.checkpoints.facts(parameters.base_model)
        check_base_model(parameters.base_model, facts)
        mode_loras(parameters, facts, self.sources)
        return parameters if self.metadata else parameters.with_values(SILENT)

    def list_of(self, found: PromptList) -> PromptList:
        """The tasks of a list of which something can be made; what is wrong with the others is added."""
        tasks, problems = [], list(found.problems)
        for task in found.tasks:
            try:
                tasks.append(self.task(task))
            except ValueError as error:
                problems.append(f"{task.prompt[:MAX_SHOWN]}: {error}")
        return PromptList(tuple(tasks), shortened(problems))

    def plot(self, plot: Plot) -> Plot:
        """The same plot, if all its cells can be made and each of its axes changes something."""
        shelf = self.sources.styles()
        sources = replace(self.sources, styles=lambda: shelf)  # read once for all cells
        jobs = [self._job(self.task(cell), sources) for cell in plot.cells]
        apart = 1
        for axis in (plot.x, plot.y, plot.z):
            count = len(axis.values)
            lines = [
                set(jobs[begin + place :: apart][:count])
                for begin in range(0, len(jobs), apart * count)
                for place in range(apart)
            ]
            if count > 1 and all(len(line) == 1 for line in lines):
                raise PlotError(_no_effect(axis, plot.cells[0].performance_selection))
            apart *= count
        return plot

    def _job(self, cell: GenerationParameters, sources: Sources) -> ImageJob:
        (job,) = plan(cell, self.checkpoints.facts(cell.base_model), sources)
        return replace(job, preview=True)


def _no_effect(axis: Axis, mode: str) -> str:
    return (
        f"{axis.label} changes nothing here: with all its values the pictures are the same. "
        f"Perhaps {mode} decides over it, or what it belongs to is switched off."
    )

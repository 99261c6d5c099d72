"""Gradio's side of the bridge: the page, what its buttons do, the server around it; knows no engine and no torch."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from secrets import token_hex
from typing import Any

import gradio as gr
from fastapi import APIRouter

from modules.api import download_routes, history_routes, language_routes, owner_routes, queue_routes, task_routes
from modules.api.front import owner_of
from modules.api.guard import is_loopback
from modules.api.login import Gate
from modules.api.public import Public
from modules.api.routes import assets_address, head, router
from modules.api.server import Server, application, end_in_order, give_gradio_a_folder, tell_ready
from modules.async_worker import AsyncWorker
from modules.auth import AuthError
from modules.choices import NO_MODEL
from modules.connections import watch_connections
from modules.downloads import Downloads
from modules.feasible import Feasible
from modules.files import ModelFileError, ModelLibrary, check_base_model
from modules.history import History, Keeper
from modules.localization import Languages
from modules.model_cards import Catalogue
from modules.model_fit import refiner_problem
from modules.model_search import here_with
from modules.own_presets import OwnPresets
from modules.owner_settings import OwnerSettings
from modules.parameters import (
    GenerationParameters,
    leaf,
    leaves,
    parameters_from_ctrls,
)
from modules.passing import passing
from modules.plan import ModelFacts, picture_size
from modules.presets import StartingPoint
from modules.prompt_sources import prompt_sources
from modules.settings import Settings, SettingsError
from modules.store import DATABASE, Store, StoreError
from modules.styles import read_styles
from modules.ui import advanced_tab, canvas, final_prompt, header, models_tab, prompt_bar, settings_tab, styles_tab
from modules.ui.components import RATIOS, Wording, choices_of, with_labels
from modules.ui.header import note_html, note_update
from modules.ui.metadata_tab import MetadataTab
from modules.ui.model_notes import file_lists
from modules.ui.panel import Panel
from modules.ui.plot_panel import PlotDesk
from modules.ui.preset_bar import PresetDesk
from modules.ui.prompt_list_panel import PromptListDesk
from modules.ui.queue_panel import QueueDesk
from modules.ui.theme import theme
from modules.ui.view import View, refused
from modules.workplace import create_worker, start

log = logging.getLogger(__name__)

Update = dict[str, Any]
ENGINE_WAITS_SECONDS = 4.0
BEAT_SECONDS = 2.5  # a task is never silent for longer, so that the page can tell quiet from broken
# What all events have in common: values are checked by the parameters' declaration, any number of people may use an
# event at once, no other program is told of it, and Gradio draws no spinner over what it fills.
EVENT: dict[str, Any] = {
    "preprocess": False,
    "concurrency_limit": None,
    "api_visibility": "private",
    "show_progress": "hidden",
    "trigger_mode": "multiple",
}


@dataclass(frozen=True)
class Handlers:
    """What happens when something is pressed. One instance serves everybody; of calls it keeps nothing."""

    settings: Settings
    library: ModelLibrary
    worker: AsyncWorker
    page_opened: Callable[[], None]

    @cached_property
    def catalogue(self) -> Catalogue:
        """What the model files say of themselves."""
        return Catalogue(self.library, self.settings.data / "model_cards.json")

    @cached_property
    def presets(self) -> PresetDesk:
        """What happens with presets."""
        return PresetDesk(OwnPresets(self.settings), self.library.checkpoints, self.wording)

    def generate_clicked(self, request: gr.Request, *args: Any) -> Iterator[Update]:
        """Takes the ctrls in order of declaration, submits a task and shows it until it ends.

        The task lives on when the listener goes away. What cannot be is answered in words, and no task comes about.
        """
        try:
            task_id = self.worker.submit(self.checked(args), owner_of(request.cookies))
        except ValueError as error:
            yield gr.update(value=refused(with_labels(str(error))))
        else:
            yield from self.show(task_id)

    def checked(self, args: Sequence[Any]) -> GenerationParameters:
        """The parameters of the ctrls, if something can be made of them; raises ``ValueError`` with a sentence."""
        return self.possible(parameters_from_ctrls(args))

    def possible(self, parameters: GenerationParameters) -> GenerationParameters:
        """The parameters of a task, if something can be made of them; raises ``ValueError`` with a sentence."""
        return self.feasible().task(parameters)

    def feasible(self) -> Feasible:
        """What can be made with the files that are there now."""
        return Feasible(self.library.checkpoints, prompt_sources(self.settings), self.settings.metadata)

    def resume(self, request: gr.Request, task_id: str) -> Iterator[Update]:
        """After a refresh: the task this tab was showing, or else the newest unfinished one of this browser."""
        self.page_opened()
        try:
            followed = task_id if self._owns(request, task_id) else self._running(request)
        except StoreError as error:
            yield gr.update(value=refused(str(error)))
        else:
            if followed:
                yield from self.show(followed)

    def show(self, task_id: str) -> Iterator[Update]:
        """The canvas while this task goes on: first its present state, then every change."""
        try:
            view = self._first_view(task_id)
            yield gr.update(value=view.to_json())
            for event in self.worker.follow(task_id, poll=BEAT_SECONDS):
                view = view.after(event)
                yield gr.update(value=view.to_json())
        except ValueError as error:
            yield gr.update(value=refused(str(error)))

    def stop(self, request: gr.Request, task_id: str) -> None:
        """Ends a task of this browser; the pictures it has finished are kept."""
        if self._owns(request, task_id):
            self.worker.stop(task_id)

    def retry(self, request: gr.Request, task_id: str) -> Iterator[Update]:
        """Lets a task of this browser that was stopped or failed go on with its missing pictures, and shows it."""
        try:
            owned = self._owns(request, task_id)
            if owned:
                self.worker.retry(task_id)
        except StoreError as error:
            yield gr.update(value=refused(str(error)))
            return
        if owned:
            yield from self.show(task_id)
        else:
            yield gr.update(value=refused("This task is no longer in the queue."))

    def skip(self, request: gr.Request, task_id: str) -> None:
        """Leaves the picture that is being made and goes on with the next."""
        if self._owns(request, task_id):
            self.worker.skip(task_id)

    def model_chosen(self, name: str, refiner: str) -> tuple[Update, Update, Update]:
        """The aspect ratios in the pixels of this model, what is wrong with it, if anything, and a refiner for it.

        A refiner that came with another model is put away in words if it cannot go on with pictures of this one.
        """
        notes: tuple[str, ...] = ()
        put_away = gr.skip()
        try:
            check_base_model(name, self.library.checkpoints.facts(name))
        except ModelFileError as error:
            notes = (str(error),)
        else:
            second, base = (self.catalogue.card("checkpoints", each) for each in (refiner, name))
            if refiner != NO_MODEL and (problem := refiner_problem(refiner, second, name, base)):
                notes = (f"No refiner is used: {problem}",)
                put_away = gr.update(value=NO_MODEL)
        return gr.update(choices=choices_of(leaf(RATIOS), self.wording(name))), note_update(notes), put_away

    def model_recalled(self, name: str, refiner: str) -> tuple[Update, Update, Update]:
        """As ``model_chosen``, for a model that the browser remembered; what is said at the start stays in place."""
        if name == self.presets.start().parameters.base_model:
            return gr.skip(), gr.skip(), gr.skip()
        return self.model_chosen(name, refiner)

    def mode_chosen(self, name: str) -> list[Update]:
        """Locks exactly the controls over which the performance mode decides, and says so under each of them."""
        return settings_tab.locks(name)

    def wording(self, model: str) -> Wording:
        """The choices as they are right now: the files on the disk, sizes in pixels of this model."""
        try:
            facts = self.library.checkpoints.facts(model)
        except ModelFileError:
            facts = ModelFacts(native=1024)

        def choice_text(path: str, value: str, text: str) -> str:
            if path != RATIOS:
                return text
            width, height = picture_size(GenerationParameters(aspect_ratios_selection=value), facts)
            return f"{width}×{height} ({text.rpartition(' ')[2]})"

        files, file_text = file_lists(self.catalogue, model)
        return Wording(files, lambda: read_styles(self.settings.styles).names(), choice_text, file_text)

    def _owns(self, request: gr.Request, task_id: str) -> bool:
        record = self.worker.task(task_id) if task_id else None
        return record is not None and record.owner == owner_of(request.cookies)

    def _running(self, request: gr.Request) -> str | None:
        owner = owner_of(request.cookies)
        return self.worker.running(owner) if owner else None

    def _first_view(self, task_id: str) -> View:
        record = self.worker.task(task_id)
        if record is None:
            raise StoreError("This task is no longer in the queue.")
        parameters = GenerationParameters.from_json(record.parameters)
        width, height = picture_size(parameters, self.library.checkpoints.facts(parameters.base_model))
        return View(
            task=task_id, state="waiting", prompt=parameters.prompt, count=parameters.image_number,
            width=width, height=height, text="Waiting for its turn …", stream=token_hex(4),
        )  # fmt: skip


def build_ui(handlers: Handlers, assets: str, login: bool = False) -> gr.Blocks:
    """The whole page. Every declared parameter is placed exactly once.

    ``assets`` is the address of its scripts; ``login`` is whether people sign in, and out again.
    """
    start = handlers.presets.start()
    panel = Panel(start.parameters, handlers.wording(start.parameters.base_model))
    page = gr.Blocks(title="Pinhole", analytics_enabled=False, fill_width=True)
    with page:
        notes = (*start.notes, *handlers.settings.notes, *read_styles(handlers.settings.styles).notes)
        note, fetched = header.build(note_html(notes), assets, login)
        with gr.Row(elem_id="main"):
            with gr.Column(elem_id="left", scale=1):
                stage = canvas.build(assets)
                bar = prompt_bar.build(panel, assets)
            with gr.Column(elem_id="right", scale=0), gr.Tabs(elem_id="tabs"):
                with gr.Tab("Settings"):
                    tab = settings_tab.build(panel, handlers.presets, start.preset, EVENT, handlers.settings.metadata)
                with gr.Tab("Styles"):
                    styles_tab.build(panel, handlers.settings.styles, EVENT)
                with gr.Tab("Models") as models:
                    files = models_tab.build(panel)
                with gr.Tab("Advanced"):
                    plot = advanced_tab.build(page, panel, EVENT)
                with gr.Tab("Metadata"):
                    told = MetadataTab.build()
        _wire_tasks(handlers, page, panel, stage, bar, note)
        _wire_form(handlers, page, panel, note, tab, start)
        fetched.wire(tab.presets.preset, panel.ctrls(), note, handlers.presets.chosen, EVENT)
        files.wire(models, panel, handlers.catalogue, handlers.worker.made_with, [fetched.refresh], EVENT)
        plot.wire(
            PlotDesk(handlers.worker, handlers.feasible, handlers.library.names), bar.list.panel, panel.ctrls(), EVENT
        )
        here = here_with(handlers.settings, handlers.catalogue.names)
        told.wire(panel, here, handlers.wording, EVENT)
    return page


def _wire_tasks(
    handlers: Handlers, page: gr.Blocks, panel: Panel, stage: gr.HTML, bar: prompt_bar.PromptBar, note: gr.HTML
) -> None:
    """Generate, Skip, Stop, and coming back to a running task."""
    ctrls = panel.ctrls()
    names = json.dumps([leaf.path for leaf in leaves()])
    known: dict[str, Any] = {"js": "() => [pinhole.currentTask()]"}
    bar.generate.click(
        handlers.generate_clicked, ctrls, stage, js=f"(...values) => pinhole.generate({names}, values)", **EVENT
    )
    # Not queued: they must get through while everything else is busy.
    bar.stop.click(handlers.stop, bar.task, None, queue=False, **known, **EVENT)
    bar.skip.click(handlers.skip, bar.task, None, queue=False, **known, **EVENT)
    bar.retry.click(handlers.retry, bar.task, stage, **known, **EVENT)
    remembered: dict[str, Any] = {"js": "() => [pinhole.rememberedTask()]"}
    bar.resume.click(handlers.resume, bar.task, stage, **remembered, **EVENT)
    page.load(handlers.resume, bar.task, stage, **remembered, **EVENT)
    page.load(None, None, bar.advanced, js="() => pinhole.advancedWasOpen()", **EVENT)
    looker = final_prompt.Looker(handlers.settings, handlers.library, handlers.worker)
    final_prompt.wire(bar.final, looker, ctrls, EVENT)
    desk = QueueDesk(handlers.worker, handlers.checked, handlers.presets.filled)
    bar.list.wire(PromptListDesk(handlers.worker, handlers.feasible), ctrls, EVENT)
    back = bar.queue.wire(desk, bar.task, ctrls, names, EVENT)
    model, refiner = panel.get("base_model"), panel.get("refiner_model")
    back.then(handlers.model_chosen, [model, refiner], [panel.get(RATIOS), note, refiner], **EVENT)


def _wire_form(
    handlers: Handlers,
    page: gr.Blocks,
    panel: Panel,
    note: gr.HTML,
    tab: settings_tab.SettingsTab,
    start: StartingPoint,
) -> None:
    """The model's sizes, the mode's locks, the seed's switch, and what follows from the values a page starts with."""
    model, refiner = panel.get("base_model"), panel.get("refiner_model")
    ratios, styles = panel.get(RATIOS), panel.get("style_selections")
    model.input(handlers.model_chosen, [model, refiner], [ratios, note, refiner], **EVENT)
    mode = panel.get("performance_selection")
    locked = [panel.get(path) for path in settings_tab.locked_paths()]
    mode.change(handlers.mode_chosen, mode, locked, **EVENT)
    tab.random.change(
        None, [tab.random, tab.seed], tab.seed, js="(random, seed) => pinhole.seedFor(random, seed)", **EVENT
    )
    tab.seed.change(None, tab.seed, tab.random, js="(seed) => seed.trim() === '-1'", **EVENT)
    recalled = tab.presets.wire(page, panel, note, handlers.presets, start, EVENT)
    # The form that was remembered may ask for another mode, and for another model, whose sizes differ.
    recalled.then(handlers.mode_chosen, mode, locked, **EVENT)
    recalled.then(handlers.model_recalled, [model, refiner], [ratios, note, refiner], **EVENT)
    recalled.then(partial(styles_tab.sorted_anew, handlers.settings.styles, ""), styles, styles, **EVENT)


def _routes(
    handlers: Handlers, downloads: Downloads, history: Store, keeper: Keeper, languages: Languages, everybodys: bool
) -> APIRouter:
    """What is answered beside the page itself. ``everybodys``: whether the history shows everybody's pictures."""
    settings, worker, connections = handlers.settings, handlers.worker, downloads.reach.log
    routes = router(worker.picture, partial(read_styles, settings.styles))
    routes.include_router(download_routes.router(downloads))
    routes.include_router(history_routes.router(History(history), settings.thumbnails, everybodys, keeper.look))
    routes.include_router(queue_routes.router(worker))
    routes.include_router(task_routes.router(worker, lambda: handlers.presets.start().parameters, handlers.possible))
    routes.include_router(owner_routes.router(OwnerSettings(settings), connections, settings.offline))
    routes.include_router(language_routes.router(languages, settings.language))
    return routes


def serve(settings: Settings, door: socket.socket, worker: AsyncWorker | None = None) -> None:
    """Serve the page until interrupted, on ``door``, which is bound already.

    The engine is started when somebody looks at the page, or after some seconds: until then it would only take the
    processor away from the page. Raises ``StoreError``.
    """
    gate = Gate.of(settings, is_loopback(settings.host) and not settings.share, sys.stdout.write)
    worker = worker or create_worker(settings)
    give_gradio_a_folder(settings.data / "gradio")
    languages = Languages(settings.languages)
    notes = (*settings.notes, *worker.notes, *languages.notes(settings.language))
    settings = replace(settings, notes=notes)
    looked_at, library = threading.Event(), ModelLibrary(settings.models)
    downloads, history = Downloads(settings, library), Store(settings.kept / DATABASE)
    keeper = Keeper(History(history), settings.outputs)
    handlers = Handlers(settings, library, worker, looked_at.set)
    assets = assets_address()
    page = build_ui(handlers, assets, gate.closed)
    routes = _routes(handlers, downloads, history, keeper, languages, is_loopback(settings.host) and not gate.closed)
    public = Public(settings, downloads.reach)
    frame = head(assets, settings.theme, settings.keep)
    app = application(page, theme(), routes, frame, settings.host, gate.around, public)

    def start_engine() -> None:
        looked_at.wait(ENGINE_WAITS_SECONDS)
        start(worker)
        keeper.look()

    def ready() -> None:
        tell_ready(door, settings.in_browser)
        public.open()
        threading.Thread(target=start_engine, name="start-engine", daemon=True).start()

    end_in_order()
    try:
        with suppress(KeyboardInterrupt):
            watch_connections(downloads.reach.log, settings.offline)
            Server(app, ready).run(sockets=[door, *public.doors])
        sys.stdout.write("\nPinhole is ending. What is not finished goes on at the next start.\n")
    finally:
        public.close()
        downloads.close()
        worker.close()
        history.close()


def main(settings: Settings, door: socket.socket) -> int:
    """Serve the page until interrupted; returns the exit code."""
    try:
        with passing(settings) as used:
            serve(used, door)
    except (SettingsError, StoreError, AuthError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0

"""The queue of this machine, put together from its settings; knows nothing of how it works."""

from __future__ import annotations

import logging
import time
from functools import partial

from modules.async_worker import AsyncWorker
from modules.engine_messages import EngineConfig
from modules.engine_process import Factory, load_pipeline
from modules.engines import LocalEngine
from modules.files import ModelFiles, ModelLibrary
from modules.model_hashes import ModelHashes
from modules.prompt_sources import prompt_sources
from modules.settings import Settings
from modules.store import DATABASE, Store, StoreError

log = logging.getLogger(__name__)
RETRY_SECONDS = 3.0


def create_worker(settings: Settings, *, kind: str = "app", factory: Factory = load_pipeline) -> AsyncWorker:
    """The queue of this machine with its one local engine; nothing is started yet. Raises ``StoreError``.

    ``kind`` is ``app`` for the application and ``command`` for a command that waits for its own task only.
    """
    store = Store(settings.kept / DATABASE)
    by = settings.created_by
    config = EngineConfig(settings.models, settings.texts, settings.memory, settings.hashes, by)
    engine = LocalEngine(config, factory)
    hashes = ModelHashes(settings.hashes, ModelLibrary(settings.models))
    models = ModelFiles(settings.models.checkpoints)
    sources = partial(prompt_sources, settings)
    in_use = hashes.compute_later
    return AsyncWorker(store, (engine,), models, settings.outputs, sources=sources, in_use=in_use, kind=kind)


def start(worker: AsyncWorker) -> None:
    """Let the queue begin, also when its file cannot be read yet (a full disk); it is tried until it can."""
    while True:
        try:
            worker.start()
            return worker.warm_up()
        except StoreError as error:
            log.error("%s", error)
            time.sleep(RETRY_SECONDS)

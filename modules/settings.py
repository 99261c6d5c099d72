"""What the machine's owner decides: folders, address, start-up defaults; read once, knows nothing of who uses it.

Sources, each over the one before: built-in values, ``config.txt`` (JSON), environment variables, command-line flags.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ldm_patched.modules.memory import AUTOMATIC, Policy
from modules.model_folders import ModelFolders


class SettingsError(ValueError):
    """A setting that cannot be; the message names the source, the key and the value."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that is the same for all tasks of a run of the application.

    ``models`` says where weights are looked for. ``data`` holds the queue and history. ``wildcards`` are lists of
    words, ``own_styles`` and ``own_presets`` the user's files (None: in ``data``). ``defaults`` are the field's
    ``default_*`` keys, applied under every preset. ``memory`` says where models lie and in which numbers they compute.
    ``preset_downloads`` is whether what a preset names may be fetched when asked for, ``hf_mirror`` the address that
    stands for the Hub's, ``private_addresses`` whether it may come from this machine and its network; ``offline``: no
    connection beyond this machine is opened; ``share``: the page gets an address on the internet. ``config`` is the
    configuration file, there or not; ``sources`` says in words where the value of a field comes from, if it is not the
    built-in one.
    ``created_by`` is the name that pictures carry, empty for none.
    ``language`` is what the page speaks to a browser that has chosen nothing (empty: what that browser is set to).
    ``theme`` is its colours likewise: light or dark. ``metadata`` is whether pictures may tell how they were made;
    ``keep`` whether anything stays when the application ends, ``temp`` where it is until then (None: the system's
    folder), ``passing`` that folder while it is used. ``notes`` are sentences to show at start.
    """

    root: Path
    models: ModelFolders
    outputs: Path
    presets: Path
    data: Path
    wildcards: Path
    host: str = "127.0.0.1"
    port: int = 7865
    in_browser: bool = True
    preset: str = ""
    language: str = ""
    theme: str = ""
    metadata: bool = True
    keep: bool = True
    temp: Path | None = None
    passing: Path | None = None
    own_styles: Path | None = None
    own_presets: Path | None = None
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    memory: Policy = AUTOMATIC
    preset_downloads: bool = True
    hf_mirror: str = ""
    private_addresses: bool = False
    created_by: str = ""
    offline: bool = False
    share: bool = False
    config: Path | None = field(default=None, compare=False)
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    notes: tuple[str, ...] = ()

    @property
    def styles(self) -> tuple[Path, ...]:
        """The folders of style files: those that come along, then the user's own, which win."""
        return (self.root / "sdxl_styles", self.own_styles or self.data / "styles")

    @property
    def preset_folders(self) -> tuple[Path, Path]:
        """The folders of presets: those that come along, then the user's own, which win."""
        return (self.presets, self.own_presets or self.data / "presets")

    @property
    def accounts(self) -> Path:
        """The file of who may sign in."""
        return self.root / "auth.json"

    @property
    def sessions(self) -> Path:
        """The file of who is signed in."""
        return self.data / "sessions.json"

    @property
    def kept(self) -> Path:
        """The folder of the queue and the history: ``data``, unless nothing is kept."""
        return self.passing or self.data

    @property
    def thumbnails(self) -> Path:
        """The folder of small pictures: they can be made again at any time."""
        return self.kept / "thumbnails"

    @property
    def languages(self) -> Path:
        """The folder of the page's translations."""
        return self.root / "language"

    @property
    def texts(self) -> Path:
        """The folder of encoded texts: they can be made again at any time."""
        return self.kept / "texts"

    @property
    def hashes(self) -> Path:
        """The file in which hashes of models are remembered: likewise."""
        return self.data / "model_hashes.json"


# key in config.txt and in the environment -> field
FOLDER_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "path_checkpoints": "models.checkpoints",
        "path_loras": "models.loras",
        "path_vae": "models.vae",
        "path_embeddings": "models.embeddings",
        "path_vae_approx": "models.previews",
        "path_fooocus_expansion": "models.expansion",
        "path_outputs": "outputs",
        "path_presets": "presets",
        "path_own_presets": "own_presets",
        "path_wildcards": "wildcards",
        "path_styles": "own_styles",
        "path_data": "data",
        "temp_path": "temp",
    }
)

# key in config.txt and in the environment -> field; the last key wins
HUB_KEYS: Mapping[str, str] = MappingProxyType({"HF_ENDPOINT": "hf_mirror", "HF_MIRROR": "hf_mirror"})
# key in config.txt and in the environment -> field, and its value when the key is true
SWITCH_KEYS: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "disable_preset_download": ("preset_downloads", False),
        "download_from_private_addresses": ("private_addresses", True),
        "offline": ("offline", True),
        "disable_metadata": ("metadata", False),
        "disable_image_log": ("keep", False),
    }
)
# key in config.txt and in the environment -> field, and what it may be
TEXT_KEYS: Mapping[str, tuple[str, re.Pattern[str], str]] = MappingProxyType(
    {
        "metadata_created_by": ("created_by", re.compile(r".{0,200}"), "a name of up to 200 printable characters"),
        "language": ("language", re.compile(r"[A-Za-z0-9_-]{0,40}"), "the name of a language"),
        "theme": ("theme", re.compile("(?:light|dark)?"), "light or dark"),
    }
)
FLAG = "command line"
_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        **FOLDER_KEYS,
        **{key: name for key, (name, _) in SWITCH_KEYS.items()},
        **HUB_KEYS,
        **{name: name for name in HUB_KEYS.values()},
        **{key: name for key, (name, _, _) in TEXT_KEYS.items()},
    }
)
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def built_in_settings(root: Path) -> Settings:
    """The settings of an application in ``root`` that nobody has configured."""
    return Settings(
        root=root,
        models=ModelFolders.under(root / "models"),
        outputs=root / "outputs",
        presets=root / "presets",
        data=root / "data",
        wildcards=root / "wildcards",
    )


def load_settings(root: Path, flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """The settings in force.

    ``flags`` maps names of fields of ``Settings`` to values; None means that the flag was not given. The configuration
    file is ``config.txt`` in ``root``, or what the environment's ``config_path`` says. Raises ``SettingsError``.
    """
    config = Path(environ.get("config_path", root / "config.txt"))
    settings = replace(built_in_settings(root.resolve()), config=config)
    if config.exists():
        settings = _from_file(settings, config)
    settings = _from_environment(settings, environ)
    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in given.items():
        if name in FOLDER_KEYS.values():
            settings = _with_folder(settings, name, value, Path.cwd(), f"the flag for {name}")
    plain = {name: value for name, value in given.items() if name not in FOLDER_KEYS.values()}
    settings = _from(settings, {name: FLAG for name, value in given.items() if value != AUTOMATIC})
    return _checked(replace(settings, **plain))  # type: ignore[arg-type]  # checked in the next breath


def _from_file(settings: Settings, path: Path) -> Settings:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: must be a JSON object")
    defaults: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in values.items():
        if field_of(key):
            settings = _with(settings, key, value, f"{path}: {key}", path.name)
        elif key.startswith("default_"):
            defaults[key] = value
        else:
            notes.append(f"{path.name}: {key!r} is not a setting and was ignored.")
    return replace(settings, defaults=MappingProxyType(defaults), notes=tuple(notes))


def _from_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    for key in (*FOLDER_KEYS, *SWITCH_KEYS, "metadata_created_by"):
        if environ.get(key):
            source = f"environment variable {key}"
            settings = _with(settings, key, environ[key], source, source)
    for key in HUB_KEYS:
        source = f"environment variable {key}"
        try:
            if environ.get(key):
                settings = _with(settings, key, environ[key], source, source)
        except SettingsError as error:  # it is there for other programs as well: no reason not to start
            settings = replace(settings, notes=(*settings.notes, f"{error}; it was ignored."))
    found = {key: value for key, value in environ.items() if key.startswith("default_")}
    if found:
        settings = replace(settings, defaults=MappingProxyType({**settings.defaults, **found}))
    return settings


def field_of(key: str) -> str:
    """The field that a key of the configuration file decides; empty for one that is not a setting."""
    return _FIELDS.get(key, "")


def checked_setting(settings: Settings, key: str, value: object) -> Settings:
    """``settings`` with a key of the configuration file set as that file would; raises ``SettingsError``."""
    return _with(settings, key, value, key, "")


def _with(settings: Settings, key: str, value: object, place: str, source: str) -> Settings:
    """``settings`` with a key set; ``place`` is for complaints, ``source`` for whoever asks where the value is from."""
    if key in FOLDER_KEYS:
        settings = _with_folder(settings, FOLDER_KEYS[key], value, settings.root, place)
    else:
        settings = _with_plain(settings, key, value, place)
    return _from(settings, {field_of(key): source})


def _from(settings: Settings, sources: Mapping[str, str]) -> Settings:
    return replace(settings, sources=MappingProxyType({**settings.sources, **sources}))


def _with_plain(settings: Settings, key: str, value: object, source: str) -> Settings:
    """``settings`` with a switch, the mirror's address or a text set."""
    if key in TEXT_KEYS:
        name, shape, what = TEXT_KEYS[key]
        if not isinstance(value, str) or not value.isprintable() or not shape.fullmatch(value):
            raise SettingsError(f"{source}: {value!r} is not {what}")
        return replace(settings, **{name: value.strip()})  # type: ignore[arg-type]  # a text's field
    if key not in SWITCH_KEYS:
        return replace(settings, hf_mirror=checked_mirror(value, source))
    name, when_true = SWITCH_KEYS[key]
    wish = _WORDS.get(str(value).strip().lower())
    if wish is None:
        raise SettingsError(f"{source}: {value!r} is neither true nor false")
    return replace(settings, **{name: wish == when_true})  # type: ignore[arg-type]  # a switch's field


def checked_mirror(value: object, source: str) -> str:
    """The address of a mirror without the slash at its end; raises ``SettingsError``."""
    if value != "" and not (isinstance(value, str) and re.fullmatch(r"https?://[!-~]{1,500}", value)):
        raise SettingsError(f"{source}: {value!r} is not an address that begins with https://")
    return str(value).rstrip("/")


def _with_folder(settings: Settings, name: str, value: object, base: Path, source: str) -> Settings:
    """``settings`` with the folder ``name`` set; a relative one is relative to ``base``."""
    several = value if isinstance(value, (list, tuple)) else [value]
    named = [each for each in several if isinstance(each, (str, Path)) and str(each)]
    if not named or len(named) != len(several):
        raise SettingsError(f"{source}: {value!r} is not a folder")
    try:
        folders = tuple((base / each).resolve() for each in named)
    except (OSError, ValueError, RuntimeError):  # a NUL in it, a link to itself
        raise SettingsError(f"{source}: {value!r} is not a folder") from None
    group, _, kind = name.partition(".")
    if kind == "expansion":
        folders += settings.models.expansion[-1:]
    if group == "models" and kind != "previews":
        return replace(settings, models=replace(settings.models, **{kind: folders}))  # type: ignore[arg-type]
    if len(folders) != 1:
        raise SettingsError(f"{source}: only one folder is possible, {value!r} has {len(folders)}")
    if group == "models":
        return replace(settings, models=replace(settings.models, previews=folders[0]))
    return replace(settings, **{name: folders[0]})  # type: ignore[arg-type]  # a folder's field


def _checked(settings: Settings) -> Settings:
    if not isinstance(settings.port, int) or not 0 <= settings.port <= 65535:
        raise SettingsError(f"port: {settings.port!r} is outside 0 to 65535")
    if not isinstance(settings.host, str) or not settings.host:
        raise SettingsError(f"host: {settings.host!r} is not an address")
    if settings.share and settings.offline:
        raise SettingsError(
            "--share needs a connection to Gradio's servers, and --offline lets none leave this machine"
        )
    if settings.theme not in ("", "light", "dark"):
        raise SettingsError(f"theme: {settings.theme!r} is neither light nor dark")
    return replace(settings, hf_mirror=checked_mirror(settings.hf_mirror, "hf_mirror"))

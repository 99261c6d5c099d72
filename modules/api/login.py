"""The login in front of everything else, where the page has accounts; knows no task and nothing that is served."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modules.api.bodies import TooLarge, body_of
from modules.api.front import OWNER_COOKIE
from modules.auth import Accounts
from modules.localization import Languages
from modules.sessions import SESSION_SECONDS, Attempts, Sessions
from modules.settings import Settings

SESSION_COOKIE = "pinhole_session"
MAX_BYTES = 8192
LOGIN, LOGOUT = "/login", "/logout"
WRONG = "This name and password do not go together."
TOO_MANY = "Too many wrong passwords. Please try again in {wait} s."
LANGUAGE_COOKIE = "pinhole_language"
NO_STORE = {"cache-control": "no-store"}


class Login:
    """ASGI middleware: who is not signed in sees the login page and nothing else.

    Whoever is signed in is known to all that follows as the owner of the same tasks, whatever browser they come with.
    """

    def __init__(
        self, app: ASGIApp, accounts: Accounts, sessions: Sessions, attempts: Attempts, languages: Languages, first: str
    ) -> None:
        """``first``: the language for a browser that has chosen none; empty: as that browser is set."""
        self.app = app
        self._languages = languages
        self._first = first
        self._accounts = accounts
        self._sessions = sessions
        self._attempts = attempts
        self._page = Template(files("modules.ui").joinpath("assets", "login.html").read_text("utf-8"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
        token = cookies.get(SESSION_COOKIE, "")
        user = self._sessions.user(token)
        if scope["type"] == "websocket" and user is None:
            await send({"type": "websocket.close", "code": 1008})
            return
        answer: ASGIApp
        if scope["type"] == "http" and scope["path"] in (LOGIN, LOGOUT):
            request = Request(scope, receive)
            answer = await (self._login(request, user) if scope["path"] == LOGIN else self._logout(request, token))
        elif user is None:
            answer = _closed(scope)
        else:
            answer, scope = self.app, _as_owner(scope, cookies, user)
        await answer(scope, receive, send)

    async def _login(self, request: Request, user: str | None) -> Response:
        if request.method in ("GET", "HEAD"):
            return RedirectResponse("/", 303, NO_STORE) if user is not None else self._form(request)
        if request.method != "POST":
            return PlainTextResponse("There is nothing here.", 405)
        try:
            told = parse_qs((await body_of(request, MAX_BYTES)).decode("utf-8", "replace"), max_num_fields=8)
        except (TooLarge, ValueError):
            return self._form(request, WRONG, status=413)
        name, password = (told.get(field, [""])[0] for field in ("user", "password"))
        address = "" if request.client is None else request.client.host
        if wait := self._attempts.wait(address, name):
            return self._form(request, TOO_MANY, name, 429, max(1, round(wait)))
        if not await run_in_threadpool(self._accounts.check, name, password):
            self._attempts.failed(address, name)
            return self._form(request, WRONG, name, 401)
        self._attempts.succeeded(address, name)
        answer = RedirectResponse("/", 303, NO_STORE)
        answer.set_cookie(
            SESSION_COOKIE,
            await run_in_threadpool(self._sessions.begin, name),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _logout(self, request: Request, token: str) -> Response:
        if request.method == "POST":
            await run_in_threadpool(self._sessions.end, token)
        answer = RedirectResponse(LOGIN, 303, NO_STORE)
        answer.delete_cookie(SESSION_COOKIE)
        return answer

    def _form(
        self, request: Request, english: str = "", name: str = "", status: int = 200, wait: int | None = None
    ) -> Response:
        """The form in the reader's language. ``wait``: seconds until the next try."""
        language = self._languages.nearest(_wanted(request, self._first))
        here, nowhere = " autofocus", ""
        first, second = (nowhere, here) if name else (here, nowhere)
        page = self._page.substitute(
            language=escape(language.name),
            direction="rtl" if language.right_to_left else "ltr",
            title=escape(language.said("Pinhole: sign in")),
            name_label=escape(language.said("Name")),
            password_label=escape(language.said("Password")),
            sign_in=escape(language.said("Sign in")),
            words=escape(language.said(english, wait=wait)) if english else "",
            name=escape(name[:200]),
            first=first,
            second=second,
        )
        return HTMLResponse(page, status, NO_STORE if wait is None else {**NO_STORE, "retry-after": str(wait)})


@dataclass(frozen=True)
class Gate:
    """Whether people have to sign in, and what goes around the server if they do."""

    accounts: Accounts
    sessions: Path
    languages: Languages
    language: str

    @classmethod
    def of(cls, settings: Settings, local: bool, tell: Callable[[str], object]) -> Gate:
        """By the files of accounts and of who is signed in.

        Where other machines are answered (not ``local``) and nobody may sign in yet, an account is made and told.
        Raises ``AuthError``.
        """
        accounts = settings.accounts
        found = Accounts(accounts)
        if not found and not local:
            name, password = found.make_first()
            tell(
                f"Other machines are answered, so there is a login now.\n\n    Name      {name}\n    Password  "
                f"{password}\n\nIt is not shown again. To get another one, delete {accounts} and start again.\n"
            )
        return cls(found, settings.sessions, Languages(settings.languages), settings.language)

    @property
    def closed(self) -> bool:
        """Whether people have to sign in."""
        return bool(self.accounts)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The server behind the login, if there is one."""
        if not self.closed:
            return app
        sessions = Sessions(self.sessions, self.accounts)
        return Login(app, self.accounts, sessions, Attempts(), self.languages, self.language)


def _wanted(request: Request, first: str) -> list[str]:
    """Languages in the order in which a reader wants them: chosen in the page, by who serves it, in the browser."""
    ranges = [each.split(";")[0].strip() for each in request.headers.get("accept-language", "")[:500].split(",")]
    return [name for name in (request.cookies.get(LANGUAGE_COOKIE, ""), first, *ranges) if name]


def owner_name(user: str) -> str:
    """The owner of the tasks of an account, in the form of a browser's id."""
    return urlsafe_b64encode(hashlib.sha256(f"account {user}".encode()).digest()).decode().rstrip("=")


def _closed(scope: Scope) -> Response:
    """A person is led to the login, a program is told."""
    wants_page = "text/html" in Headers(scope=scope).get("accept", "")
    if scope["method"] in ("GET", "HEAD") and scope["path"] == "/" and wants_page:
        return RedirectResponse(LOGIN, 303, NO_STORE)
    return PlainTextResponse("Please sign in.", 401, NO_STORE)


def _as_owner(scope: Scope, cookies: Mapping[str, str], user: str) -> Scope:
    """The request with the account's owner id in place of the one that the browser sent, and without its session."""
    kept = {name: value for name, value in cookies.items() if name not in (OWNER_COOKIE, SESSION_COOKIE)}
    told = "; ".join(f"{name}={value}" for name, value in {**kept, OWNER_COOKIE: owner_name(user)}.items())
    others = [pair for pair in scope["headers"] if pair[0] != b"cookie"]
    return {**scope, "headers": [*others, (b"cookie", told.encode("latin-1", "ignore"))]}

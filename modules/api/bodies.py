"""The body of a request, up to a limit; knows nothing of what is in it."""

from __future__ import annotations

from starlette.requests import Request


class TooLarge(ValueError):
    """A body over the limit."""


async def body_of(request: Request, most: int) -> bytes:
    """The whole body. Raises ``TooLarge`` once it is over ``most`` bytes, and reads no further."""
    body = bytearray()
    async for part in request.stream():
        if len(body) + len(part) > most:
            raise TooLarge
        body += part
    return bytes(body)

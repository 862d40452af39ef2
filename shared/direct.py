"""A hot route, asked straight away: past the framework's search for it and for its parameters.

That costs a fifth of a small request (docs/decisions/0017-where-the-time-goes.md). The route stays one of the app's:
it is documented, and found by whoever comes with another method.
"""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.problems import Problem
from shared.web import problem_response

Endpoint = Callable[[Request], Awaitable[Response | None]]


def ask_directly(app: FastAPI, method: str, route: BaseRoute, endpoint: Endpoint | None = None) -> None:
    """Let requests with `method` for the path of `route`, which `app` serves as well, go straight to its endpoint.

    The endpoint, or the one that is given in its place, takes the request, reads it by itself, and refuses by raising
    `Problem`. What it does not understand goes the framework's way: it answers None.
    """
    assert isinstance(route, Route)
    app.user_middleware.append(Middleware(_Direct, method=method, route=route, endpoint=endpoint or route.endpoint))


class _Direct:
    """The innermost middleware: the others see these requests as any other."""

    def __init__(self, app: ASGIApp, *, method: str, route: Route, endpoint: Endpoint) -> None:
        self._app = app
        self._method = method
        self._route = route
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = scope["type"] == "http" and scope["method"] == self._method
        found = self._route.path_regex.match(scope["path"]) if wanted else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope.update(route=self._route, path_params=found.groupdict())
        try:
            response = await self._endpoint(Request(scope, receive, send))
        except Problem as problem:
            response = problem_response(problem)
        await (response or self._app)(scope, receive, send)

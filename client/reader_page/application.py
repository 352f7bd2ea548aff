"""The page as an ASGI application: addresses to what the desk does, errors to one line."""

import logging
from http import HTTPStatus
from importlib.resources import files
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from client.reader_page import pages
from client.reader_page.asked import AskedReading, GivenOpinion, GivenPathology, parsed
from client.reader_page.desk import BusyError, Desk, UnknownError
from client.reader_page.gate import MAX_BODY_BYTES, Access, Gate
from shared_model.errors import DataError, FederatedMammographyError
from shared_model.system.peer_text import peer_text
from shared_model.vocabulary import Laterality

_ASSETS = {
    "page.css": "text/css",
    "film.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "list.js": "text/javascript",
    "study.js": "text/javascript",
}
logger = logging.getLogger(__name__)


def reader_page(desk: Desk, access: Access) -> Gate:
    """Return the application; ``access`` says who is answered."""
    endpoints = _Endpoints(desk)
    routes = [
        Route("/", endpoints.work_list),
        Route("/studies", endpoints.rows),
        Route("/studies/{study}", endpoints.study),
        Route("/films/{film}", endpoints.film),
        Route("/readings", endpoints.read, methods=["POST"]),
        Route("/readings/{reading}/maps/{number:int}/{layer}", endpoints.map),
        Route("/studies/{study}/readings", endpoints.earlier),
        Route("/opinions", endpoints.opinion, methods=["POST"]),
        Route("/pathologies", endpoints.pathology, methods=["POST"]),
        Route("/since", endpoints.since_release),
        Route("/readings.csv", endpoints.export),
        Route("/assets/{name}", _asset),
    ]
    handlers = {Exception: _failed, HTTPException: _no_such_page} | dict.fromkeys(
        (FederatedMammographyError, OSError, ValueError), _told
    )
    return Gate(Starlette(routes=routes, exception_handlers=handlers), access)


class _Endpoints:
    """One method for each address; what takes long runs in a thread of its own."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def work_list(self, request: Request) -> Response:
        listed = await run_in_threadpool(self._desk.work_list.look)
        counts = await run_in_threadpool(self._desk.kept.counts)
        return HTMLResponse(pages.work_list(self._desk, listed, counts, user=request.state.user))

    async def rows(self, _: Request) -> Response:
        listed = await run_in_threadpool(self._desk.work_list.look)
        counts = await run_in_threadpool(self._desk.kept.counts)
        return HTMLResponse(pages.rows(listed, counts))

    async def study(self, request: Request) -> Response:
        study = await run_in_threadpool(self._desk.study, request.path_params["study"])
        side = request.query_params.get("side")
        if side is not None and side not in {*Laterality, "unknown"}:
            raise ValueError(f"Expected side to be LEFT, RIGHT or unknown, got {peer_text(side, 20)!r}.")
        wanted = study.sides[0] if side is None else Laterality(side) if side in set(Laterality) else None
        earlier = await run_in_threadpool(self._desk.kept.of_patient, study.patient_key)
        return HTMLResponse(pages.study(self._desk, study, wanted, earlier, user=request.state.user))

    async def earlier(self, request: Request) -> Response:
        study = await run_in_threadpool(self._desk.study, request.path_params["study"])
        earlier = await run_in_threadpool(self._desk.kept.of_patient, study.patient_key)
        return HTMLResponse(pages.earlier(earlier, study))

    async def film(self, request: Request) -> Response:
        film = await run_in_threadpool(self._desk.film, request.path_params["film"])
        rows, columns = film.pixels.shape
        x, y, step = (_whole(request, name) for name in ("x", "y", "step"))
        width, height = _whole(request, "width") or columns, _whole(request, "height") or rows
        part = await run_in_threadpool(lambda: film.part(x, y, width, height, step=step or 1))
        headers = {
            "X-Rows": str(rows),
            "X-Columns": str(columns),
            "X-Part": f"{part.shape[1]},{part.shape[0]}",
            "X-Window": f"{film.low},{film.high}",
        }
        content = part.astype("<u2", copy=False).tobytes()
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def read(self, request: Request) -> Response:
        asked = parsed(AskedReading, await _body(request))
        kept = await run_in_threadpool(self._desk.read, asked, user=request.state.user)
        return HTMLResponse(pages.reading(kept, self._desk.maps(kept.reading.reading_id)))

    async def map(self, request: Request) -> Response:
        maps, number = self._desk.maps(request.path_params["reading"]), request.path_params["number"]
        layer = request.path_params["layer"]
        if number >= len(maps) or layer not in {"picture", "heat"}:
            raise UnknownError("Expected a map of a reading of today; maps are not kept.")
        return Response(maps[number].picture if layer == "picture" else maps[number].heat, media_type="image/png")

    async def opinion(self, request: Request) -> Response:
        given = parsed(GivenOpinion, await _body(request))
        await run_in_threadpool(self._desk.keep_opinion, given, user=request.state.user)
        return PlainTextResponse("Kept at this site.")

    async def pathology(self, request: Request) -> Response:
        given = parsed(GivenPathology, await _body(request))
        await run_in_threadpool(self._desk.keep_pathology, given, user=request.state.user)
        return PlainTextResponse("Kept at this site.")

    async def since_release(self, request: Request) -> Response:
        found = await run_in_threadpool(self._desk.since_release)
        return HTMLResponse(pages.since_release(self._desk, found, user=request.state.user))

    async def export(self, request: Request) -> Response:
        content = await run_in_threadpool(self._desk.export, user=request.state.user)
        headers = {"Content-Disposition": 'attachment; filename="readings.csv"'}
        return Response(content, media_type="text/csv", headers=headers)


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _ASSETS:
        raise UnknownError("Expected a file of the page.")
    content = files("client.reader_page").joinpath("assets", name).read_bytes()
    return Response(content, media_type=_ASSETS[name])


async def _body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            # ``Content-Length`` may be missing.
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Expected a body of at most {MAX_BODY_BYTES} bytes."
            )
    return bytes(content)


def _whole(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ValueError(f"Expected {name} to be a whole number of at most six digits.")
    return int(text)


async def _told(request: Request, error: Exception) -> Response:
    """Tell what is wrong in one line; of a file that the system does not give, not which."""
    match error:
        case UnknownError():
            status, text = HTTPStatus.NOT_FOUND, str(error)
        case BusyError():
            status, text = HTTPStatus.CONFLICT, str(error)
        case DataError() | ValueError():
            status, text = HTTPStatus.UNPROCESSABLE_ENTITY, str(error)
        case _:
            return await _failed(request, error)
    return _plain(request, status, peer_text(text, 400))


async def _failed(request: Request, error: Exception) -> Response:
    # Its text may hold a path, and so what a folder is called after.
    logger.error("The page failed at %s: %s", request.url.path.split("/")[1][:20], type(error).__name__)
    return _plain(request, HTTPStatus.INTERNAL_SERVER_ERROR, "It failed; the log of this process says why.")


async def _no_such_page(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(type(error).__name__)
    return _plain(request, HTTPStatus(error.status_code), peer_text(error.detail, 400))


def _plain(request: Request, status: HTTPStatus, text: str) -> Response:
    if request.headers.get("sec-fetch-dest") == "document":
        return HTMLResponse(pages.problem(text), status)
    return PlainTextResponse(text, status, headers={"X-Problem": quote(text[:200])})

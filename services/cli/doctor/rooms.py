"""The rooms that run: what they say of themselves, and whether api and storage believe each other's tokens."""

from http import HTTPStatus

import aiohttp

from services.cli.doctor.patient import Patient, RoomName
from services.cli.doctor.report import Finding, failed, ok, skipped, warning
from shared.ids import new_id
from shared.settings import SettingsError, authority
from shared.tokens import SERVICE, Tokens

ANSWER_SECONDS = 4.0
TOKEN_SECONDS = 60


async def check_rooms(patient: Patient) -> list[Finding]:
    """Each room's `/readyz`. One that does not run is no fault: it may not have been started yet."""
    settings = patient.any_settings
    if settings is None:
        return [skipped("rooms", "the settings come first")]
    ports = {
        RoomName.API: settings.api_port,
        RoomName.STORAGE: settings.storage_port,
        RoomName.NOTIFIER: settings.notifier_port,
    }
    async with _session() as session:
        return [
            finding
            for name in patient.rooms
            for finding in await _ready(session, name, f"http://{authority(settings.host, ports[name])}")
        ]


async def check_storage(patient: Patient) -> list[Finding]:
    """Asks the storage for a resume that is not there, with the api's token: 404 is the right answer, 401 is not."""
    if patient.api is None:
        return []
    url = patient.api.resolved_storage_url
    try:
        token = Tokens(patient.api.resolved_service_secret, SERVICE).issue("doctor", TOKEN_SECONDS)
    except SettingsError:
        return [skipped("storage", "the secrets come first")]
    try:
        async with _session() as session:
            stranger = await _ask_for_nothing(session, url, {})
            friend = await _ask_for_nothing(session, url, {"Authorization": f"Bearer {token}"})
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return [_unreachable(url, error)]
    return [_judge(url, stranger, friend)]


async def _ready(session: aiohttp.ClientSession, name: str, url: str) -> list[Finding]:
    setting, room = f"LEADS_{name.upper()}_PORT", f"{name} room"
    try:
        async with session.get(f"{url}/readyz") as response:
            told = await response.json()
            checks: dict[str, str] = told["checks"]
    except (aiohttp.ClientConnectorError, ConnectionError):
        return [skipped(room, f"is not running at {url}")]
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
        return [
            failed(room, f"What listens at {url} does not answer as Leads does.", f"Free that port, or set {setting}.")
        ]
    faults = {part: said for part, said in checks.items() if said != "ok"}
    if response.status != HTTPStatus.OK:
        return [failed(room, f"is not ready: {_listed(faults)}", "Mend that; the room needs no restart.")]
    if faults:
        return [warning(room, f"is ready, but {_listed(faults)}", "Mend that; nothing is lost meanwhile.")]
    return [ok(room, f"is ready at {url}")]


def _judge(url: str, stranger: int, friend: int) -> Finding:
    if (stranger, friend) == (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND):
        return ok("storage", f"{url} takes the api's token")
    if friend == HTTPStatus.UNAUTHORIZED:
        return failed(
            "storage",
            f"The storage at {url} refuses the api's token (401): every lead is refused with 503.",
            "Give both the same LEADS_SERVICE_SECRET, start both again, and see that their clocks agree.",
        )
    return failed("storage", f"What listens at {url} is not the storage.", "Correct LEADS_STORAGE_URL.")


def _unreachable(url: str, error: Exception) -> Finding:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return failed("storage", f"The host of {url} is not known.", "Correct LEADS_STORAGE_URL.")
    if isinstance(error, aiohttp.ClientConnectorError | ConnectionError):
        return skipped("storage", f"nothing listens at {url}: start the storage, or correct LEADS_STORAGE_URL")
    told = f"What listens at {url} gives no proper answer ({type(error).__name__})."
    return failed("storage", told, "Correct LEADS_STORAGE_URL, or see the storage's log.")


async def _ask_for_nothing(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> int:
    async with session.head(f"{url}/blobs/{new_id()}", headers=headers, allow_redirects=False) as response:
        return response.status


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))


def _listed(faults: dict[str, str]) -> str:
    return "; ".join(f"{part}: {said}" for part, said in faults.items())

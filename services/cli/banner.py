"""What `leads up` prints when everything is ready: where things are, and how to get in."""

from services.cli.init import StaffLogin
from services.cli.settings import CliSettings
from shared.settings import authority


def print_banner(settings: CliSettings, login: StaffLogin | None, *, seconds: float) -> None:
    """Colours on a terminal (unless NO_COLOR is set), plain lines elsewhere."""
    from rich.console import Console  # loaded while the rooms are starting, not before
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble("\nLeads is running", (f" (ready after {seconds:.1f} s)", "dim"), style="bold green"))
    for label, value in facts(settings, login):
        console.print(Text.assemble("  ", (f"{label:<12}", "bold"), value))
    console.print(Text("Ctrl-C stops.\n", style="dim"))


def facts(settings: CliSettings, login: StaffLogin | None) -> list[tuple[str, str]]:
    """The banner's lines, each a label and a value."""
    door = f"http://{authority(settings.host, settings.api_port)}"
    mailbox = settings.mailbox
    mail = ("dev mailbox", str(mailbox.resolve())) if mailbox else ("mail", "really sent, by SendGrid")
    return [
        ("API", door),
        ("docs", f"{door}/docs"),
        mail,
        ("data", str(settings.data_dir.resolve())),
        ("staff login", _login(settings, login)),
    ]


def _login(settings: CliSettings, login: StaffLogin | None) -> str:
    if settings.admin_password is not None:
        return f"{settings.admin_email} (its first password is LEADS_ADMIN_PASSWORD)"
    if login is not None:
        return f"{login.email}  password: {login.password}  (shown only this once)"
    return (
        f"{settings.admin_email} (password was shown at first start; "
        f"`./leads users passwd {settings.admin_email}` sets a new one)"
    )

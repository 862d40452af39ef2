"""Whether mail would leave. SendGrid is asked by a call that it checks and sends nothing for (sandbox mode)."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from services.cli.doctor.patient import Patient
from services.cli.doctor.report import Finding, failed, ok, warning
from services.notifier.email import (
    EmailMessage,
    MailError,
    MailRejected,
    MailThrottled,
    MailUnauthorized,
)
from services.notifier.settings import SENDGRID, NotifierSettings
from services.notifier.transport import SendGridTransport, Timeouts, transport_for
from shared.ids import new_id

SHORT = Timeouts(connect_seconds=3.0, read_seconds=5.0, total_seconds=6.0)


async def check_mail(patient: Patient) -> list[Finding]:
    """The way that `LEADS_MAIL_URL` names, and whom mail comes from."""
    settings = patient.notifier
    if settings is None:
        return []
    if settings.resolved_mail_url != SENDGRID:
        return [_folder(settings)]
    return [*_addresses(settings), await _rehearse(settings)]


def _folder(settings: NotifierSettings) -> Finding:
    """Whether it can be written to is looked at with the other folders."""
    try:
        transport_for(settings.resolved_mail_url, sender=settings.sender)
    except ValueError as error:
        return failed("mail", str(error), "Correct LEADS_MAIL_URL.")
    return ok("mail", f"is kept as files: {settings.resolved_mail_url}")


def _addresses(settings: NotifierSettings) -> Iterator[Finding]:
    if settings.mail_from == NotifierSettings.model_fields["mail_from"].default:
        yield failed(
            "mail",
            f"LEADS_MAIL_FROM is the example {settings.mail_from}, which SendGrid sends nothing for.",
            "Set LEADS_MAIL_FROM to a sender that SendGrid has verified.",
        )
    if not urlsplit(settings.public_url).hostname:
        yield warning(
            "mail",
            f"Links in e-mails lead to {settings.resolved_public_url}, which staff elsewhere cannot open.",
            "Set LEADS_PUBLIC_URL to the address that staff use.",
        )


async def _rehearse(settings: NotifierSettings) -> Finding:
    key = settings.sendgrid_api_key
    try:
        transport = SendGridTransport(
            api_key=key.get_secret_value() if key else "",
            sender=settings.sender,
            base_url=settings.sendgrid_base_url,
            timeouts=SHORT,
            sandbox=True,
        )
    except ValueError as error:
        return failed("mail", str(error), "Set it, or unset LEADS_MAIL_URL to keep mail as files.")
    try:
        await transport.send(_message(settings))
    except MailError as error:
        return _refused(error, settings)
    finally:
        await transport.close()
    return ok("mail", f"SendGrid takes the key and the sender {settings.mail_from} (nothing was sent)")


def _refused(error: MailError, settings: NotifierSettings) -> Finding:
    if isinstance(error, MailUnauthorized):
        return failed(
            "mail", error.reason, "Events wait in the queue meanwhile; restart the notifier with the new key."
        )
    if isinstance(error, MailThrottled):
        return warning("mail", error.reason, "Wait, or raise the account's limit. E-mails wait meanwhile.")
    if isinstance(error, MailRejected):
        return failed("mail", error.reason, "Correct LEADS_MAIL_FROM, LEADS_MAIL_REPLY_TO or LEADS_STAFF_EMAIL.")
    told = f"{error.reason} (SENDGRID_BASE_URL is {settings.sendgrid_base_url})"
    return failed("mail", told, "Correct SENDGRID_BASE_URL, or let this machine reach it. E-mails wait meanwhile.")


def _message(settings: NotifierSettings) -> EmailMessage:
    return EmailMessage(
        id=new_id(),
        to=settings.resolved_staff_email,
        to_name=None,
        subject="Leads: a rehearsal",
        text="Nothing is sent.",
        html="<p>Nothing is sent.</p>",
    )

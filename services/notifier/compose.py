"""Puts one e-mail together: words from the templates, the right recipients, ids and nothing else beside them."""

from collections.abc import Callable

from services.notifier.email import EmailMessage
from services.notifier.render import load_templates, prospect_name, render_prospect, render_staff
from services.notifier.settings import NotifierSettings
from services.notifier.tables import Email, EmailKind
from shared.events import LeadCreated


def composer_of(settings: NotifierSettings) -> Callable[[Email, LeadCreated], EmailMessage]:
    """The function that writes e-mails as these settings say."""
    templates = load_templates()

    def compose(email: Email, lead: LeadCreated) -> EmailMessage:
        if email.kind is EmailKind.PROSPECT:
            rendered = render_prospect(lead, templates=templates, house_name=settings.mail_from_name)
            to: tuple[str, ...] = (lead.email,)
            name = prospect_name(lead)
        else:
            rendered = render_staff(lead, templates=templates, public_url=settings.resolved_public_url)
            to, name = settings.resolved_staff_email, None
        return EmailMessage(
            id=email.id,
            to=to,
            to_name=name,
            subject=rendered.subject,
            html=rendered.html,
            text=rendered.text,
            custom_args={"lead_id": email.lead_id, "event_id": email.event_id, "kind": email.kind},
            categories=(email.kind,),
        )

    return compose

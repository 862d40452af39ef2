"""Whether a resume without a lead is what a crash left behind, or all that is left of a lead that was lost."""

from sqlalchemy.orm import Session

from services.api.store import count_leads, get_lead

COMMITTED_WITHIN_SECONDS = 5.0
"""A lead is committed so soon after its resume was stored, or never: two waits for the database of 2 s, and a bit."""


def why_leads_are_missing(session: Session, *, orphans: int, newest_lead: str | None) -> str | None:
    """Why this database seems to be older than the resumes beside it, or another one; None when it does not.

    `newest_lead` is the id that was noted beside the resumes: of a lead that their database had a while ago, and no
    lead is ever deleted. Where none was noted yet, `orphans` tells, which is how many resumes have no lead in it. As
    long as there is a reason, no resume may be removed.
    """
    if newest_lead is not None:
        return None if get_lead(session, newest_lead) else f"the lead {newest_lead} was there once"
    leads = count_leads(session)
    return f"{orphans} resumes have no lead, and only {leads} leads are there" if orphans > leads else None

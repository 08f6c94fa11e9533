"""Who may approve a proposal: somebody else than its proposer."""

from collections.abc import Iterator

from ...domain.authorship import Author
from ...domain.errors import ApproverNotIndependent, InvalidParameter
from ...domain.proposal import Proposal
from ..access_keys.key_format import is_key_id
from ..ledger.ledger import Ledger


def require_named(author: Author, role: str) -> None:
    """Raise InvalidParameter if a proposal or an approval has no author."""
    if author.by is None:
        raise InvalidParameter(f"'by' must name the {role}, who is stored in the ledger.", field="by")


def require_independent(ledger: Ledger, proposal: Proposal, approver: Author) -> None:
    """Raise ApproverNotIndependent if the approver is the proposer, or one of them created the other's access key.

    Neither may they act on behalf of the same person.
    """
    require_named(approver, "approver")
    proposer = proposal.proposer
    names = {proposer.by, proposer.on_behalf_of} - {None}
    if names & {approver.by, approver.on_behalf_of}:
        reason = f"It was proposed by {' on behalf of '.join(filter(None, (proposer.by, proposer.on_behalf_of)))}"
    elif proposer.by is not None and proposer.by in _creators(ledger, approver.by or ""):
        reason = f"The access key {approver.by} was created by the proposer, {proposer.by}"
    elif (approver.by or "") in _creators(ledger, proposer.by or ""):
        reason = f"The access key {proposer.by}, which proposed it, was created by the approver"
    else:
        return
    raise ApproverNotIndependent(
        f"{reason}: somebody else has to approve the proposal {proposal.proposal_id!r}.",
        field="by",
        value=approver.by,
    )


def _creators(ledger: Ledger, name: str) -> Iterator[str]:
    """Yield who created the access key with this hint, who created their key, and so on."""
    seen: set[str] = set()
    while name not in seen:
        seen.add(name)
        key_id = name.rpartition("_")[2]
        key = ledger.find_access_key(key_id) if is_key_id(key_id) else None
        if key is None or key.created_by is None:
            return
        name = key.created_by
        yield name

"""Error pages: what went wrong, and what to do."""

from ....domain.errors import ApprovalRequired, ApproverNotIndependent
from ..http.errors import ApiError
from .responses import Page

_TITLES = {
    400: "This can't be shown", 403: "Not allowed", 404: "Not found", 408: "Too slow", 409: "Not possible now",
    413: "Too large", 429: "Too many requests", 503: "Not available now",
}  # fmt: skip
_ADVICE = {
    400: "Go back, change the fields, and try again.",
    403: "Ask the owner of the ledger for an access key with this scope.",
    404: "Check the name, or search for it from the page Usage.",
    409: "Reload the page to see the present state, then decide again.",
    429: "Wait a moment, then reload the page.",
    503: "Wait a moment, then reload the page. Choose a shorter range if it was slow.",
}
_ADVICE_BY_CODE = {
    ApprovalRequired.code: "Nothing was changed. Go back and reload the page: it offers to propose the change.",
    ApproverNotIndependent.code: "Nothing was changed. Ask somebody else to approve the proposal.",
}


class RejectedForm(ApiError):
    """A form with values that are not valid. `page` shows it again, with what was entered and the error."""

    def __init__(self, message: str, page: Page) -> None:
        super().__init__(400, message)
        self.page = page


def error_page(error: ApiError) -> Page:
    """Return the page of an error."""
    if isinstance(error, RejectedForm):
        return error.page
    code = error.error.code
    advice = _ADVICE.get(error.status, "Reload the page. If it happens again, look into the server's log.")
    title = _TITLES.get(error.status, "Something went wrong")
    values = {
        "title": "Needs approval" if code == ApprovalRequired.code else title,
        "message": error.error.message,
        "code": code,
        "advice": _ADVICE_BY_CODE.get(code or "", advice),
        "selection": None,
    }
    return Page("error.html", values, error.status)


def embedded_error_page(error: ApiError) -> Page:
    """Return the page of an error in a frame of a host application, whose customer sees nothing of the console."""
    title = _TITLES.get(error.status, "Something went wrong")
    return Page("embed_error.html", {"title": title, "message": error.error.message}, error.status)

"""What can be made to go wrong: rules that match requests, and what each does to the response or to the connection.

All rules that match a request are applied in their order. A rule is used up after `times` uses; None means never.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .messages import Request, Response


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with this status at once; the request is not looked at. The default body is what a gateway sends."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"<html><body><h1>Service unavailable</h1></body></html>"
    content_type: str = "text/html"


@dataclass(frozen=True, slots=True)
class Reset:
    """Cut the connection without an answer. The request is not carried out."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Cut the connection after this share of the body; Content-Length promises all of it. `hard`: with a reset instead of an end."""

    share: float = 0.5
    hard: bool = False


@dataclass(frozen=True, slots=True)
class HangUp:
    """Send the whole answer and reset the connection then, though it was to be kept: the next request on it meets a dead one."""


@dataclass(frozen=True, slots=True)
class Drip:
    """Send the body in so many pieces, spread over so many seconds."""

    pieces: int = 10
    seconds: float = 0.1


@dataclass(frozen=True, slots=True)
class Replace:
    """Send another body: fixed bytes, or a function of the true one."""

    body: bytes | Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class SetHeaders:
    """Send other headers; None leaves one out (also `Date`)."""

    headers: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Delay:
    """Answer so many seconds later."""

    seconds: float


Action = Status | Reset | Truncate | HangUp | Drip | Replace | SetHeaders | Delay


@dataclass(slots=True)
class Fault:
    """One rule. It lets the first `skip` requests that match pass."""

    match: Callable[[Request], bool]
    action: Action
    times: int | None = 1
    used: int = 0
    skip: int = 0

    def is_due(self, request: Request) -> bool:
        """Whether the rule applies to this request; counts it."""
        if (self.times is not None and self.used >= self.times) or not self.match(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.used += 1
        return True


def on(prefix: str) -> Callable[[Request], bool]:
    """Matches requests whose path begins so."""
    return lambda request: request.path.startswith(prefix)


def later_page(prefix: str) -> Callable[[Request], bool]:
    """Matches requests for any page but the first, in every paging style, whose path begins so."""

    def match(request: Request) -> bool:
        query = request.query
        return request.path.startswith(prefix) and (
            "page[after]" in query or query.get("page[number]", "1") != "1" or query.get("page[offset]", "0") != "0"
        )

    return match


@dataclass(slots=True)
class Outcome:
    """What goes over the wire: None for nothing at all; `keep` bytes of the body if the answer is cut short (`hard`: by a reset).

    `drip`: the body in pieces over seconds. `hang_up`: a reset after the whole answer.
    """

    response: Response | None
    delay: float = 0.0
    keep: int | None = None
    hard: bool = False
    drip: Drip | None = None
    hang_up: bool = False


def apply_faults(rules: list[Fault], request: Request, answer: Callable[[Request], Response]) -> Outcome:
    """The outcome of a request under the rules; `answer` is called unless a rule answers in its place."""
    actions = [rule.action for rule in list(rules) if rule.is_due(request)]
    delay = sum(action.seconds for action in actions if isinstance(action, Delay))
    if any(isinstance(action, Reset) for action in actions):
        return Outcome(None, delay)
    status = next((action for action in actions if isinstance(action, Status)), None)
    if status is not None:
        headers = {"Content-Type": status.content_type, **status.headers}
        outcome = Outcome(Response(status.status, status.body, headers), delay)
    else:
        outcome = Outcome(answer(request), delay)
    response = outcome.response
    if response is None:
        return outcome
    for action in actions:
        if isinstance(action, Replace):
            response.body = action.body if isinstance(action.body, bytes) else action.body(response.body)
        elif isinstance(action, SetHeaders):
            for name, value in action.headers.items():
                response.headers[name] = value if value is not None else ""
        elif isinstance(action, Truncate):
            outcome.keep, outcome.hard = int(len(response.body) * action.share), action.hard
        elif isinstance(action, Drip):
            outcome.drip = action
        elif isinstance(action, HangUp):
            outcome.hang_up = True
    return outcome

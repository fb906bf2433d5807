"""What the world is made of: plain records. Instants are integers, milliseconds since 1970 UTC, to keep a million bookings small.

Nothing here knows how a record is sent. `version` counts the changes of a record, so that a rendered copy can be told from a stale one.
"""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

NO_STATUS = "No Status"
PARTICIPANT_STATUSES = {NO_STATUS: "none", "Arrived": "arrived", "No Show": "no_show", "Complete": "complete"}


@dataclass(slots=True, eq=False)
class Account:
    """A shop of the business; has time zone and currency even where the dialect does not send them."""

    id: str
    name: str
    slug: str
    time_zone: str
    currency: str
    created: int
    updated: int
    services: tuple["Service", ...] = ()
    resources: tuple["Resource", ...] = ()
    version: int = 0

    @property
    def account_id(self) -> str:
        """An account belongs to itself: so all records can be asked for their account."""
        return self.id


@dataclass(slots=True, eq=False)
class Question:
    """A booking question of a service."""

    id: str
    label: str
    kind: str


@dataclass(slots=True, eq=False)
class Service:
    """What is booked. The API sends its id; its name only when it is included."""

    id: str
    name: str
    minutes: int
    price: Decimal
    capacity: int
    buffer_minutes: int
    questions: tuple[Question, ...]


@dataclass(slots=True, eq=False)
class Resource:
    """Staff or a room. The API sends its id; its name only when it is included."""

    id: str
    name: str


@dataclass(slots=True, eq=False)
class Customer:
    """A customer of one account. `birth_date` is the true day that `custom_fields["date_of_birth"]` encodes."""

    id: str
    account_id: str
    first_name: str
    last_name: str
    email: str
    mobile: str
    phone: str
    tags: tuple[str, ...]
    marketing_opt_in: bool
    custom_fields: dict[str, object]
    birth_date: date | None
    created: int
    updated: int
    version: int = 0


@dataclass(slots=True, eq=False)
class Answer:
    """A question as put to one participant; `value` is str, bool, int, Decimal or None. Old ones have no question id."""

    question_id: str | None
    label: str
    value: object


@dataclass(slots=True, eq=False)
class PricePoint:
    """So many units at a price, each taking so many spaces."""

    quantity: int
    price_per_quantity: Decimal
    spaces_per_quantity: int


@dataclass(slots=True, eq=False)
class Participant:
    """One customer on one booking."""

    id: str
    booking_id: str
    customer_id: str
    status: str
    spaces: int
    price_points: tuple[PricePoint, ...]
    total_price: Decimal
    paid: bool
    paid_online: Decimal
    source: str
    time_zone: str
    locale: str | None
    notes: str
    answers: tuple[Answer, ...]
    created: int

    @property
    def secret(self) -> str:
        """The token inside its cancellation and reschedule links: it must never reach a warehouse."""
        return "CANARY" + self.id[::-1]


@dataclass(slots=True, eq=False)
class Booking:
    """A slot in the diary, whoever is on it."""

    id: str
    account_id: str
    service_id: str
    event_id: str | None
    resources: tuple[str, ...]
    start: int
    end: int
    buffer_start: int
    buffer_end: int
    time_zone: str
    status: str
    booking_type: str
    price: Decimal
    max_occupancy: int
    allow_online_group: bool
    created_source: str
    last_modified_source: str
    created: int
    updated: int
    participants: list[Participant] = field(default_factory=list)
    version: int = 0

    @property
    def total_spaces(self) -> int:
        """Places taken by all participants."""
        return sum(participant.spaces for participant in self.participants)


@dataclass(slots=True, eq=False)
class Event:
    """A scheduled group session that people book into (evidence 1.3, reading A)."""

    id: str
    account_id: str
    service_id: str
    title: str
    resources: tuple[str, ...]
    start: int
    end: int
    time_zone: str
    status: str
    capacity: int
    spaces_taken: int
    created: int
    updated: int
    version: int = 0


@dataclass(slots=True, eq=False)
class IntentEvent:
    """What a customer bought or meant to buy at an appointment."""

    id: str
    account_id: str
    source: str
    customer_booking_id: str
    event_data: dict[str, object]
    created: int
    updated: int
    version: int = 0


@dataclass(slots=True)
class ApiClient:
    """An OAuth client. `accounts` None means all; `hidden` are those its creator lost the admin rights on."""

    secret: str
    accounts: set[str] | None = None
    revoked: bool = False
    hidden: set[str] = field(default_factory=set)


Record = Account | Customer | Booking | Event | IntentEvent

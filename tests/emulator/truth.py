"""What a perfect warehouse would hold for the live rows of the world: the columns of the core schema without its bookkeeping.

Computed from the world's own records, never from rendered JSON, so that a fault in rendering cannot hide itself.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal

from .clock import from_ms
from .entities import PARTICIPANT_STATUSES, Account, Booking, Customer, Event, Participant, Service
from .switches import Switches

Row = dict[str, object]
Tables = dict[str, list[Row]]

TABLES = (
    "accounts",
    "customers",
    "customer_custom_fields",
    "customer_tags",
    "bookings",
    "booking_customers",
    "booking_resources",
    "booking_answers",
    "events",
)


def kind_of(value: object) -> str:
    """The form of a value, in the words of the schema."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | Decimal):
        return "number"
    return "other"


class Truth:
    """Collects the rows of one dialect."""

    def __init__(self, switches: Switches, services: Mapping[str, Service]) -> None:
        self._services = services
        self.tables: Tables = {name: [] for name in TABLES}
        self._switches = switches
        self._name: Callable[[str], str] = switches.naming.attribute

    def shown(self) -> Tables:
        """The tables with ids as the dialect spells them, as text."""
        if self._switches.ids == "hex":
            return self.tables
        for rows in self.tables.values():
            for row in rows:
                for column, value in row.items():
                    if column.endswith("_id") and column != "field_id" and isinstance(value, str):
                        row[column] = ":".join(str(self._switches.shown_id(part)) for part in value.split(":"))
        return self.tables

    def _updated(self, ms: int) -> datetime | None:
        return from_ms(ms) if self._switches.updated_sent else None

    def account(self, account: Account) -> None:
        """One account."""
        sent = self._switches.account_time_zone_sent
        self.tables["accounts"].append(
            {
                "account_id": account.id,
                "name": account.name,
                "slug": account.slug,
                "time_zone": account.time_zone if sent else None,
                "currency": account.currency if sent else None,
                "created_at": None,
                "updated_at": None,
            }
        )

    def customer(self, customer: Customer) -> None:
        """One customer with custom fields and tags."""
        key: Row = {"account_id": customer.account_id, "customer_id": customer.id}
        self.tables["customers"].append(
            {
                **key,
                "first_name": customer.first_name or None,
                "last_name": customer.last_name or None,
                "email": customer.email or None,
                "mobile": customer.mobile or None,
                "phone": customer.phone or None,
                "is_marketing_opted_in": customer.marketing_opt_in,
                "created_at": from_ms(customer.created),
                "updated_at": self._updated(customer.updated),
            }
        )
        for field_id, value in customer.custom_fields.items():
            kind = kind_of(value)
            self.tables["customer_custom_fields"].append(
                {
                    **key,
                    "field_id": field_id,
                    "value_kind": kind,
                    "value_raw": value,
                    "value_text": value if kind == "text" else None,
                    "value_number": Decimal(str(value)) if kind == "number" else None,
                    "is_value_true": value if kind == "boolean" else None,
                    "value_on": customer.birth_date if field_id == "date_of_birth" else None,
                }
            )
        self.tables["customer_tags"].extend({**key, "tag": tag} for tag in customer.tags)

    def booking(self, booking: Booking) -> None:
        """One booking with participants, answers and resources."""
        key: Row = {"account_id": booking.account_id, "booking_id": booking.id}
        self.tables["bookings"].append(
            {
                **key,
                "service_id": booking.service_id,
                "service_name": self._services[booking.service_id].name if self._switches.embedded_service else None,
                "event_id": booking.event_id,
                "start_at": from_ms(booking.start),
                "end_at": from_ms(booking.end),
                "buffer_start_at": from_ms(booking.buffer_start),
                "buffer_end_at": from_ms(booking.buffer_end),
                "time_zone": booking.time_zone,
                "status": booking.status.lower(),
                "status_raw": booking.status,
                "booking_type": booking.booking_type,
                "price": booking.price,
                "total_spaces_count": booking.total_spaces,
                "max_occupancy_count": booking.max_occupancy,
                "is_online_group_allowed": booking.allow_online_group,
                "created_source": booking.created_source,
                "last_modified_source": booking.last_modified_source,
                "created_at": from_ms(booking.created),
                "updated_at": self._updated(booking.updated),
            }
        )
        self.tables["booking_resources"].extend(
            {**key, "resource_id": resource_id, "resource_name": None} for resource_id in booking.resources
        )
        seen: Counter[str] = Counter()
        for participant in booking.participants:
            seen[participant.customer_id] += 1
            participation = participant.id
            if self._switches.participants == "attribute_without_ids":
                participation = f"customer:{participant.customer_id}:{seen[participant.customer_id]}"
            self._participant({**key, "customer_booking_id": participation}, participant)

    def _participant(self, key: Row, participant: Participant) -> None:
        self.tables["booking_customers"].append(
            {
                **key,
                "customer_id": participant.customer_id,
                "status": PARTICIPANT_STATUSES.get(participant.status, participant.status),
                "status_raw": participant.status,
                "spaces_count": participant.spaces,
                "total_spaces_count": participant.spaces,
                "total_price": participant.total_price,
                "is_paid": participant.paid,
                "paid_online_amount": participant.paid_online,
                "booking_source": participant.source,
                "time_zone": participant.time_zone,
                "locale": participant.locale,
                "notes": participant.notes or None,
                "price_points": [
                    {
                        self._name("quantity"): point.quantity,
                        self._name("pricePerQuantity"): point.price_per_quantity,
                        self._name("spacesPerQuantity"): point.spaces_per_quantity,
                    }
                    for point in participant.price_points
                ],
                "created_at": from_ms(participant.created),
                "updated_at": None,
            }
        )
        labels: Counter[str] = Counter()
        for answer in participant.answers:
            labels[answer.label] += 1
            kind = kind_of(answer.value)
            self.tables["booking_answers"].append(
                {
                    **key,
                    "question_id": answer.question_id or f"label:{answer.label}:{labels[answer.label]}",
                    "label": answer.label,
                    "answer_kind": kind,
                    "answer_text": str(answer.value) if kind in ("text", "number") else None,
                    "is_answer_true": answer.value if kind == "boolean" else None,
                }
            )

    def event(self, event: Event) -> None:
        """One event."""
        self.tables["events"].append(
            {
                "account_id": event.account_id,
                "event_id": event.id,
                "service_id": event.service_id,
                "title": event.title,
                "start_at": from_ms(event.start),
                "end_at": from_ms(event.end),
                "time_zone": event.time_zone,
                "status": event.status.lower(),
                "status_raw": event.status,
                "capacity_count": event.capacity,
                "spaces_taken_count": event.spaces_taken,
                "created_at": from_ms(event.created),
                "updated_at": self._updated(event.updated),
            }
        )

"""Turns records into JSON:API bytes in one dialect. A rendered record is kept until it changes, so a page is a join of bytes.

Written from the names of the default dialect; `Switches.naming` has the last word on each. What is true is not decided here.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import cast

import msgspec

from .clock import from_ms
from .entities import Account, Booking, Customer, Event, IntentEvent, Participant, Record, Resource, Service
from .state import State
from .switches import Switches

Document = dict[str, object]
Fields = dict[str, set[str]]

_PUBLIC = "https://book.appointments.example"


class Renderer:
    """Renders the records of a world; to be used under the world's lock."""

    def __init__(self, world: State, switches: Switches, origin: str) -> None:
        self._world, self._switches, self._origin = world, switches, origin
        naming = switches.naming
        self._attribute, self._relationship = cache(naming.attribute), cache(naming.relationship)
        self._type, self._path = cache(naming.type), cache(naming.path)
        self._encode = msgspec.json.Encoder(decimal_format="number").encode
        self._id = switches.shown_id
        self._zulu = switches.instants == "z"
        self._rows: dict[str, tuple[int, bytes]] = {}
        self._participants: dict[str, tuple[int, bytes]] = {}

    # ---- small things ------------------------------------------------------------------------------------------------------------

    def link(self, target: str) -> object:
        """A link to a path of this server, in the dialect's form."""
        if self._switches.links == "object":
            return {"href": target}
        return target if self._switches.links == "relative" else self._origin + target

    def _instant(self, ms: int) -> str:
        text = from_ms(ms).isoformat(timespec="milliseconds")
        return text[:-6] + "Z" if self._zulu else text

    def _named(self, attributes: Document) -> Document:
        return {self._attribute(name): value for name, value in attributes.items()}

    def _identifier(self, kind: str, record_id: str | None) -> Document | None:
        return {"type": self._type(kind), "id": self._id(record_id)} if record_id is not None else None

    def _one(self, kind: str, record_id: str | None) -> Document:
        return {"data": self._identifier(kind, record_id)}

    def _many(self, kind: str, ids: Iterable[str]) -> Document:
        return {"data": [self._identifier(kind, record_id) for record_id in ids]}

    def _resource(
        self, kind: str, record_id: str, attributes: Document, relationships: Document | None = None
    ) -> Document:
        resource: Document = {
            "type": self._type(kind),
            "id": self._id(record_id),
            "attributes": self._named(attributes),
        }
        if relationships:
            resource["relationships"] = {self._relationship(name): value for name, value in relationships.items()}
        return resource

    def _stamps(self, record: Customer | Booking | Event) -> Document:
        stamps: Document = {"created": self._instant(record.created)}
        if self._switches.updated_sent:
            stamps["updated"] = self._instant(record.updated)
        return stamps

    def _belonging(self, account_id: str) -> tuple[Document, Document]:
        """How a row names its account: attributes and relationships."""
        if self._switches.account_in == "relationship":
            return {}, {"account": self._one("accounts", account_id)}
        return ({"accountId": self._id(account_id)} if self._switches.account_in == "attribute" else {}), {}

    # ---- resources ---------------------------------------------------------------------------------------------------------------

    def _account(self, account: Account) -> Document:
        attributes: Document = {"name": account.name, "slug": account.slug}
        if self._switches.account_time_zone_sent:
            attributes |= {"timezone": account.time_zone, "currency": account.currency}
        resource = self._resource("accounts", account.id, attributes)
        resource["links"] = {"self": self.link(f"/v2/{self._path('accounts')}/{self._id(account.id)}")}
        return resource

    def _customer(self, customer: Customer) -> Document:
        attributes, relationships = self._belonging(customer.account_id)
        profile: Document = {
            "firstName": customer.first_name,
            "lastName": customer.last_name,
            "email": customer.email,
            "mobile": customer.mobile,
            "phone": customer.phone,
        }
        attributes |= {"profile": self._named(profile)} if self._switches.embedded_profile else profile
        attributes |= {
            "tags": customer.tags,
            "marketingOptIn": customer.marketing_opt_in,
            "customFields": [
                self._named({"id": name, "value": value}) for name, value in customer.custom_fields.items()
            ],
            **self._stamps(customer),
        }
        return self._resource("customers", customer.id, attributes, relationships)

    def _booking(self, booking: Booking) -> Document:
        attributes, relationships = self._belonging(booking.account_id)
        attributes |= {
            "startTime": self._instant(booking.start),
            "endTime": self._instant(booking.end),
            "startBuffer": self._instant(booking.buffer_start),
            "endBuffer": self._instant(booking.buffer_end),
            "status": booking.status,
            "bookingType": booking.booking_type,
            "timezone": booking.time_zone,
            "price": booking.price,
            "totalSpaces": booking.total_spaces,
            "maxOccupancy": booking.max_occupancy,
            "allowOnlineGroup": booking.allow_online_group,
            "createdSource": booking.created_source,
            "lastModifiedSource": booking.last_modified_source,
            **self._stamps(booking),
        }
        if self._switches.embedded_service:
            service = self._world.services[booking.service_id]
            attributes["service"] = self._named({"id": self._id(service.id), "name": service.name})
        else:
            relationships["service"] = self._one("services", booking.service_id)
        relationships |= {
            "resources": self._many("resources", booking.resources),
            "event": self._one("events", booking.event_id),
        }
        if self._switches.participants != "included":
            attributes["customers"] = [self._embedded(participant) for participant in booking.participants]
        elif self._switches.linkage_only:
            target = f"/v2/{self._path('bookings')}/{self._id(booking.id)}/{self._relationship('customerBookings')}"
            relationships["customerBookings"] = {"links": {"related": self.link(target)}}
        else:
            relationships["customerBookings"] = self._many("customerBookings", (one.id for one in booking.participants))
        return self._resource("bookings", booking.id, attributes, relationships)

    def _participation(self, participant: Participant) -> Document:
        token = f"?token={participant.secret}&participantId={participant.id}"
        attributes: Document = {
            "status": participant.status,
            "spaces": participant.spaces,
            "totalSpaces": participant.spaces,
            "totalPrice": participant.total_price,
            "pricePoints": [
                self._named(
                    {
                        "quantity": point.quantity,
                        "pricePerQuantity": point.price_per_quantity,
                        "spacesPerQuantity": point.spaces_per_quantity,
                    }
                )
                for point in participant.price_points
            ],
            "paid": participant.paid,
            "totalPaidOnlineAmount": participant.paid_online,
            "bookingSource": participant.source,
            "timezone": participant.time_zone,
        }
        if participant.locale is not None:
            attributes["locale"] = participant.locale
        attributes["questions"] = [
            self._named(
                {
                    **({"id": self._id(one.question_id)} if one.question_id else {}),
                    "label": one.label,
                    "value": one.value,
                }
            )
            for one in participant.answers
        ]
        return attributes | {
            "notes": participant.notes,
            "cancellationUrl": f"{_PUBLIC}/cancel{token}",
            "rescheduleUrl": f"{_PUBLIC}/reschedule{token}",
            "created": self._instant(participant.created),
        }

    def _embedded(self, participant: Participant) -> Document:
        ids: Document = {
            "customerBookingId": self._id(participant.id),
            "customerId": self._id(participant.customer_id),
        }
        if self._switches.participants == "attribute_without_ids":
            del ids["customerBookingId"]
        return self._named(ids | self._participation(participant))

    def _customer_booking(self, participant: Participant) -> Document:
        relationships: Document = {
            "booking": self._one("bookings", participant.booking_id),
            "customer": self._one("customers", participant.customer_id),
        }
        return self._resource("customerBookings", participant.id, self._participation(participant), relationships)

    def _event(self, event: Event) -> Document:
        attributes, relationships = self._belonging(event.account_id)
        attributes |= {
            "title": event.title,
            "startTime": self._instant(event.start),
            "endTime": self._instant(event.end),
            "timezone": event.time_zone,
            "status": event.status,
            "capacity": event.capacity,
            "spacesTaken": event.spaces_taken,
            **self._stamps(event),
        }
        relationships |= {
            "service": self._one("services", event.service_id),
            "resources": self._many("resources", event.resources),
        }
        return self._resource("events", event.id, attributes, relationships)

    def _intent_event(self, event: IntentEvent) -> Document:
        attributes: Document = {
            "source": event.source,
            "timestamp": self._instant(event.created),
            "customerBookingId": self._id(event.customer_booking_id),
            "eventData": event.event_data,
            "metadata": {},
        }
        return self._resource("intentEvents", event.id, attributes)

    def resource(self, record: Record | Participant | Service | Resource) -> Document:
        """The resource object of anything that has one."""
        if isinstance(record, Booking):
            return self._booking(record)
        if isinstance(record, Customer):
            return self._customer(record)
        if isinstance(record, Participant):
            return self._customer_booking(record)
        if isinstance(record, Event):
            return self._event(record)
        if isinstance(record, Account):
            return self._account(record)
        if isinstance(record, IntentEvent):
            return self._intent_event(record)
        kind = "services" if isinstance(record, Service) else "resources"
        return self._resource(kind, record.id, {"name": record.name})

    # ---- bytes -------------------------------------------------------------------------------------------------------------------

    def encode(self, value: object) -> bytes:
        """JSON with decimals as numbers, digits as they are."""
        return self._encode(value)

    def _sparse(self, record: Record | Participant | Service | Resource, fields: Fields) -> bytes:
        resource = self.resource(record)
        wanted = fields.get(str(resource["type"]))
        for group in ("attributes", "relationships"):
            members = resource.get(group)
            if wanted is not None and isinstance(members, dict):
                resource[group] = {name: value for name, value in members.items() if name in wanted}
        return self._encode(resource)

    def rows(self, records: Iterable[Record], fields: Fields) -> bytes:
        """Records for `data`, joined by commas."""
        if fields:
            return b",".join([self._sparse(record, fields) for record in records])
        cached, parts = self._rows, []
        for record in records:  # the hottest loop of the server: a look-up and a comparison per row
            kept = cached.get(record.id)
            if kept is None or kept[0] != record.version:
                kept = cached[record.id] = (record.version, self._encode(self.resource(record)))
            parts.append(kept[1])
        return b",".join(parts)

    def participants(self, bookings: Iterable[Booking]) -> bytes:
        """The participants of bookings, joined by commas."""
        cached, parts = self._participants, []
        for booking in bookings:
            kept = cached.get(booking.id)
            if kept is None or kept[0] != booking.version:
                joined = b",".join([self._encode(self._customer_booking(one)) for one in booking.participants])
                kept = cached[booking.id] = (booking.version, joined)
            if kept[1]:
                parts.append(kept[1])
        return b",".join(parts)

    def included(self, records: Sequence[Record], include: set[str], fields: Fields) -> bytes:
        """The members of `included`, joined by commas, each resource once."""
        if include == {"customerBookings"} and not fields:
            return b"" if self._switches.linkage_only else self.participants(cast("Sequence[Booking]", records))
        found: dict[str, Record | Participant | Service | Resource | None] = {}
        world = self._world
        for record in records:
            if "account" in include:
                found[record.account_id] = world.accounts.get(record.account_id)
            if isinstance(record, Booking | Event):
                if "service" in include:
                    found[record.service_id] = world.services.get(record.service_id)
                if "resources" in include:
                    found.update((one, world.resources.get(one)) for one in record.resources)
            if isinstance(record, Booking) and "customerBookings" in include and not self._switches.linkage_only:
                for participant in record.participants:
                    found[participant.id] = participant
                    if "customerBookings.customer" in include:
                        found[participant.customer_id] = world.customers.get(participant.customer_id)
        return b",".join(self._sparse(record, fields) for record in found.values() if record is not None)

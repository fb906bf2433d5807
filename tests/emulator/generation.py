"""Makes believable records from a random generator. Knows nothing of tables or the clock: callers say what time it is."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from zoneinfo import ZoneInfo

from . import words
from .clock import to_ms
from .entities import (
    NO_STATUS,
    Account,
    Answer,
    Booking,
    Customer,
    Event,
    IntentEvent,
    Participant,
    PricePoint,
    Question,
    Resource,
    Service,
)

MINUTE = 60_000
DAY = 1440 * MINUTE
NOTHING = Decimal(0)


def slug_of(name: str) -> str:
    """A name as it stands in public addresses."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def local_midnight(day: date, time_zone: str) -> int:
    """Epoch seconds of midnight in a zone: how the API sends a date in a custom field."""
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone)).astimezone(UTC)) // 1000


def in_opening_hours(start: int, time_zone: str) -> int:
    """A start moved within its local day to between 09:00 and 18:00, in proportion, so that mornings stay before afternoons."""
    hour = datetime.fromtimestamp(start // 1000, ZoneInfo(time_zone)).hour
    return start + (9 + hour * 9 // 24 - hour) * 60 * MINUTE


class Maker:
    """Makes one record at a time; the same generator state gives the same record."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._made = 0

    def new_id(self, ms: int) -> str:
        """24 hexadecimal digits, ordered by time like the vendor's; a running number keeps them unique."""
        self._made += 1
        return f"{max(ms // 1000, 0):08x}{self.rng.getrandbits(40):010x}{self._made:06x}"

    def account(self, number: int, created: int, time_zones: bool) -> Account:
        """The nth account."""
        rng = self.rng
        city, zone, currency = words.CITIES[number % len(words.CITIES)]
        turn = number // len(words.CITIES)
        name = f"{words.BRANDS[turn % len(words.BRANDS)]} {city}"
        if turn >= len(words.BRANDS):
            name += f" {turn // len(words.BRANDS) + 1}"
        services = []
        for service in rng.sample(words.SERVICES, 4):
            asked = rng.sample(words.QUESTIONS, rng.choice((0, 0, 1, 2, 3)))
            services.append(
                Service(
                    id=self.new_id(created),
                    name=service,
                    minutes=rng.choice((15, 30, 30, 45, 60, 90)),
                    price=rng.choice(words.PRICES),
                    capacity=rng.choice((1, 1, 1, 6, 12)),
                    buffer_minutes=rng.choice((0, 0, 0, 5, 15)),
                    questions=tuple(Question(self.new_id(created), label, kind) for label, kind in asked),
                )
            )
        resources = tuple(
            Resource(self.new_id(created), rng.choice(words.FIRST_NAMES)) for _ in range(rng.randint(2, 6))
        )
        return Account(
            id=self.new_id(created),
            name=name,
            slug=slug_of(name),
            time_zone=zone if time_zones else "Europe/London",
            currency=currency if time_zones else "GBP",
            created=created,
            updated=created,
            services=tuple(services),
            resources=resources,
        )

    def person(self) -> tuple[str, str, str]:
        """First name, last name and e-mail address (sometimes empty)."""
        first, last = self.rng.choice(words.FIRST_NAMES), self.rng.choice(words.LAST_NAMES)
        if self.rng.random() < 0.07:
            return first, last, ""
        return first, last, f"{slug_of(first) or 'li'}.{slug_of(last)}{self.rng.randint(1, 99999)}@mail.example"

    def customer(self, account: Account, created: int, updated: int, person: tuple[str, str, str]) -> Customer:
        """A customer; the person may already be a customer elsewhere."""
        rng = self.rng
        fields: dict[str, object] = {}
        birth_date = None
        if rng.random() < 0.5:
            birth_date = date(1940, 1, 1) + timedelta(days=rng.randint(0, 24_800))
            fields["date_of_birth"] = local_midnight(birth_date, account.time_zone)
        if rng.random() < 0.3:
            fields["shoe_size"] = rng.choice(("38", "41½", "", "42"))
        if rng.random() < 0.2:
            fields["allergies"] = rng.choice(words.ALLERGIES)
        if rng.random() < 0.2:
            fields["member"] = rng.random() < 0.5
        if rng.random() < 0.2:
            fields["points"] = rng.choice((0, 12, Decimal("7.5"), 1000, None))
        return Customer(
            id=self.new_id(created),
            account_id=account.id,
            first_name=person[0],
            last_name=person[1],
            email=person[2],
            mobile="" if rng.random() < 0.3 else f"+4477009{rng.randint(0, 99999):05}",
            phone="" if rng.random() < 0.8 else f"0131 496 0{rng.randint(0, 999):03}",
            tags=tuple(rng.sample(words.TAGS, rng.choice((0, 0, 0, 1, 2)))),
            marketing_opt_in=rng.random() < 0.4,
            custom_fields=fields,
            birth_date=birth_date,
            created=created,
            updated=updated,
        )

    def answers(self, service: Service, created: int, now: int) -> tuple[Answer, ...]:
        """Answers to a service's questions; those of more than two years ago have no ids, and may ask the same twice."""
        rng = self.rng
        old = created < now - 730 * DAY
        asked = service.questions + (service.questions[:1] if old and rng.random() < 0.3 else ())
        values: list[Answer] = []
        for question in asked:
            value: object = None
            if question.kind == "text":
                value = rng.choice(words.TEXT_ANSWERS)
            elif rng.random() < 0.9:
                value = rng.random() < 0.5 if question.kind == "boolean" else rng.randint(0, 5)
            values.append(Answer(None if old else question.id, question.label, value))
        return tuple(values)

    def participant(
        self, booking: Booking, service: Service, customer_id: str, created: int, now: int, status: str = NO_STATUS
    ) -> Participant:
        """One customer on a booking."""
        rng = self.rng
        points = [PricePoint(1, service.price, 1)]
        if service.capacity > 1 and rng.random() < 0.2:
            points = [PricePoint(2, service.price, 1), PricePoint(1, rng.choice(words.PRICES), 1)]
        total = sum((point.quantity * point.price_per_quantity for point in points), NOTHING)
        paid = rng.choice((NOTHING, NOTHING, Decimal("10"), total))
        return Participant(
            id=self.new_id(created),
            booking_id=booking.id,
            customer_id=customer_id,
            status=status,
            spaces=sum(point.quantity * point.spaces_per_quantity for point in points),
            price_points=tuple(points),
            total_price=total,
            paid=paid >= total,
            paid_online=min(paid, total),
            source=rng.choice(words.SOURCES),
            time_zone=booking.time_zone if rng.random() < 0.85 else rng.choice(words.CUSTOMER_ZONES),
            locale=rng.choice(words.LOCALES) if rng.random() < 0.4 else None,
            notes=rng.choice(words.NOTES),
            answers=self.answers(service, created, now),
            created=created // 1000 * 1000,
        )

    def booking(
        self,
        account: Account,
        customers: Sequence[Customer],
        events: Sequence[Event],
        start: int,
        created: int,
        now: int,
    ) -> Booking:
        """A booking, just created, with its participants; the statuses are those that its start and `now` make likely."""
        rng = self.rng
        event = rng.choice(events) if events and rng.random() < 0.06 else None
        service = rng.choice(account.services)
        if event is not None:
            service = next((one for one in account.services if one.id == event.service_id), service)
            start = event.start
        else:
            start = in_opening_hours(start, account.time_zone)
            if created == now and start <= created:
                # Opening hours may lie before the present; what is booked now begins later, and did not change in the past.
                start = in_opening_hours(start + DAY, account.time_zone)
        created = min(created, start - MINUTE)
        end = start + service.minutes * MINUTE
        source = rng.choice(words.SOURCES)
        cancelled = rng.random() < 0.08
        booking = Booking(
            id=self.new_id(created),
            account_id=account.id,
            service_id=service.id,
            event_id=event.id if event else None,
            resources=tuple(one.id for one in rng.sample(account.resources, rng.choice((0, 1, 1, 1, 1, 2)))),
            start=start,
            end=end,
            buffer_start=start - service.buffer_minutes * MINUTE,
            buffer_end=end + service.buffer_minutes * MINUTE,
            time_zone=account.time_zone,
            status="cancelled" if cancelled else "confirmed",
            booking_type=rng.choice(words.BOOKING_TYPES),
            price=service.price,
            max_occupancy=service.capacity,
            allow_online_group=service.capacity > 1 and rng.random() < 0.5,
            created_source=source,
            last_modified_source=source,
            created=created,
            updated=created,
        )
        count = rng.choices((0, 1, 2, 3, 4, 5, 6), (3, 85, 5, 3, 2, 1, 1))[0] if customers else 0
        for _ in range(count):
            status = NO_STATUS
            if end < now and not cancelled:
                status = rng.choices(("Complete", "Arrived", "No Show", NO_STATUS), (55, 15, 7, 23))[0]
            booking.participants.append(
                self.participant(booking, service, rng.choice(customers).id, created, now, status)
            )
        if count:
            booking.price = sum((one.total_price for one in booking.participants), NOTHING)
        return booking

    def event(self, account: Account, start: int, created: int) -> Event:
        """A scheduled group session."""
        rng = self.rng
        start = in_opening_hours(start, account.time_zone)
        capacity = rng.choice((10, 20, 40))
        return Event(
            id=self.new_id(created),
            account_id=account.id,
            service_id=rng.choice(account.services).id,
            title=rng.choice(words.TITLES),
            resources=tuple(one.id for one in rng.sample(account.resources, rng.choice((0, 0, 1)))),
            start=start,
            end=start + rng.choice((60, 120)) * MINUTE,
            time_zone=account.time_zone,
            status="cancelled" if rng.random() < 0.08 else "confirmed",
            capacity=capacity,
            spaces_taken=rng.randint(0, capacity),
            created=created,
            updated=created,
        )

    def intent_event(self, booking: Booking, participant: Participant) -> IntentEvent:
        """What the participant bought at the appointment."""
        items = [{"product": self.rng.choice(words.PRODUCTS), "price": self.rng.choice(words.PRICES)}]
        return IntentEvent(
            id=self.new_id(booking.end),
            account_id=booking.account_id,
            source="in-store-pos",
            customer_booking_id=participant.id,
            event_data={"purchasedItems": items, "currency": "GBP"},
            created=booking.end,
            updated=booking.end,
        )

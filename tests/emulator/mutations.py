"""What can happen to the world. Every change takes the lock, stamps `updated` with the world clock unless it says otherwise, and counts.

A change of a booking is stamped in whole seconds, as the vendor does; a creation in milliseconds. Where an argument is left out, the world
chooses at random from its own generator. A record that is not there is a KeyError, nothing to choose from a LookupError.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from random import Random

from . import words
from .entities import NO_STATUS, Account, Booking, Customer, Event, Participant, Record
from .generation import DAY, MINUTE
from .state import State
from .tables import R, Table

# name → weight in a random mixture
MIXTURE = {
    "add_customer": 8,
    "change_customer": 12,
    "delete_customer": 3,
    "add_booking": 20,
    "reschedule_booking": 10,
    "cancel_booking": 6,
    "mark_no_show": 8,
    "forgive_no_show": 3,
    "complete": 8,
    "remove_participant": 6,
    "delete_booking": 3,
    "add_event": 3,
    "change_event": 3,
    "delete_event": 1,
    "bulk_update": 2,
    "add_account": 1,
}
APART = ("touch_silently", "hide_account", "show_account")  # played by `mutate` only when asked for by name


class Mutations(State):
    """The state and its changes."""

    # ---- helpers -----------------------------------------------------------------------------------------------------------------

    def _stamp(self, table: Table[R], record: R) -> R:
        """A change at the present second; never before the record's last change, though that may have been noted to the millisecond."""
        table.set_updated(record, max(record.updated, self.clock.ms() // 1000 * 1000))
        return self._changed(record)

    def _changed(self, record: R) -> R:
        record.version += 1
        self.version += 1
        return record

    def _one(self, table: Table[R], record_id: str | None) -> R:
        if record_id is not None:
            return table[record_id]
        rows = table.rows()
        if not rows:
            raise LookupError("there is no record to choose from")
        return self.rng.choice(rows)

    def _live_booking(self, booking_id: str | None, *, with_participants: bool = False) -> Booking:
        """The booking named; else some confirmed one."""
        if booking_id is not None:
            return self.bookings[booking_id]
        for _ in range(60):
            booking = self._one(self.bookings, None)
            if booking.status == "confirmed" and (booking.participants or not with_participants):
                return booking
        raise LookupError("found no confirmed booking to choose")

    def participant(self, participant_id: str) -> Participant:
        """Find a participant by id; walks all bookings."""
        for booking in self.bookings:
            for participant in booking.participants:
                if participant.id == participant_id:
                    return participant
        raise KeyError(participant_id)

    def _find(self, participant: Participant | str | None) -> Participant:
        if participant is None:
            return self.rng.choice(self._live_booking(None, with_participants=True).participants)
        return self.participant(participant) if isinstance(participant, str) else participant

    # ---- customers ---------------------------------------------------------------------------------------------------------------

    def add_customer(self, account: str | None = None, **values: object) -> Customer:
        """A new customer; `values` set fields of `Customer`."""
        with self.lock:
            shop = self._one(self.accounts, account)
            now = self.clock.ms()
            customer = self.maker.customer(shop, now, now, self.maker.person())
            _set(customer, values)
            self.customers.add(customer)
            return self._changed(customer)

    def change_customer(self, customer_id: str | None = None, **values: object) -> Customer:
        """Change fields of `Customer`; with none given, the mobile number and the marketing consent."""
        with self.lock:
            customer = self._one(self.customers, customer_id)
            if not values:
                number = f"+4477009{self.rng.randint(0, 99999):05}"
                values = {"mobile": number, "marketing_opt_in": not customer.marketing_opt_in}
            _set(customer, values)
            return self._stamp(self.customers, customer)

    def delete_customer(self, customer_id: str | None = None) -> Customer:
        """Erase a customer: gone from lists, 404 alone; bookings still name the id."""
        with self.lock:
            customer = self._one(self.customers, customer_id)
            return self._changed(self.customers.remove(customer.id))

    # ---- bookings ----------------------------------------------------------------------------------------------------------------

    def add_booking(
        self, account: str | None = None, customers: Sequence[str] | None = None, **values: object
    ) -> Booking:
        """A new booking for the coming weeks; `customers` are ids (also repeated ones), `values` set fields of `Booking`."""
        with self.lock:
            shop = self._one(self.accounts, account)
            now = self.clock.ms()
            start = (now + self.rng.randint(30 * MINUTE, 42 * DAY)) // (15 * MINUTE) * 15 * MINUTE + 15 * MINUTE
            known = [] if customers is not None else self.customers.rows(shop.id)
            events = [event for event in self.events.rows(shop.id)[-20:] if event.start > now + DAY]
            booking = self.maker.booking(shop, known, events, start, now, now)
            booking.status = "confirmed"
            service = self.services[booking.service_id]
            for customer_id in customers or ():
                booking.participants.append(self.maker.participant(booking, service, customer_id, now, now))
            _set(booking, values)
            self.bookings.add(booking)
            return self._changed(booking)

    def add_participant(self, booking_id: str, customer_id: str) -> Participant:
        """A customer joins a booking."""
        with self.lock:
            booking, now = self.bookings[booking_id], self.clock.ms()
            service = self.services[booking.service_id]
            participant = self.maker.participant(booking, service, customer_id, now, now)
            booking.participants.append(participant)
            self._stamp(self.bookings, booking)
            return participant

    def change_booking(self, booking_id: str | None = None, **values: object) -> Booking:
        """Change fields of `Booking`."""
        with self.lock:
            booking = self._live_booking(booking_id)
            _set(booking, values)
            return self._stamp(self.bookings, booking)

    def reschedule_booking(self, booking_id: str | None = None, by: timedelta | None = None) -> Booking:
        """Move a booking in time, its buffers with it."""
        with self.lock:
            booking = self._live_booking(booking_id)
            span = (by or timedelta(minutes=15 * self.rng.randint(1, 400))) // timedelta(milliseconds=1)
            booking.start += span
            booking.end += span
            booking.buffer_start += span
            booking.buffer_end += span
            booking.last_modified_source = self.rng.choice(words.SOURCES)
            return self._stamp(self.bookings, booking)

    def cancel_booking(self, booking_id: str | None = None) -> Booking:
        """Cancel a booking: it stays listed, with its participants at `No Status`."""
        with self.lock:
            booking = self._live_booking(booking_id)
            booking.status = "cancelled"
            for participant in booking.participants:
                participant.status = NO_STATUS
            return self._stamp(self.bookings, booking)

    def set_participant_status(self, participant: Participant | str | None, status: str) -> Participant:
        """Mark attendance. Whether the booking's `updated` moves is the switch `participant_change_moves_updated`."""
        with self.lock:
            found = self._find(participant)
            found.status = status
            booking = self.bookings[found.booking_id]
            if self.switches.participant_change_moves_updated:
                self._stamp(self.bookings, booking)
            else:
                self._changed(booking)
            return found

    def mark_no_show(self, participant: Participant | str | None = None) -> Participant:
        """Mark a no-show."""
        return self.set_participant_status(participant, "No Show")

    def complete(self, participant: Participant | str | None = None) -> Participant:
        """Mark as complete."""
        return self.set_participant_status(participant, "Complete")

    def forgive_no_show(self, participant: Participant | str | None = None) -> Participant:
        """Forgive a no-show: back to `No Status`."""
        with self.lock:
            if participant is None:
                rows = self.bookings.rows()
                some = self.rng.sample(rows, min(len(rows), 200))
                shows = [one for booking in some for one in booking.participants if one.status == "No Show"]
                if not shows:
                    raise LookupError("found no no-show to forgive")
                participant = self.rng.choice(shows)
            return self.set_participant_status(participant, NO_STATUS)

    def remove_participant(self, participant: Participant | str | None = None) -> Participant:
        """A customer leaves; the booking is retained, even empty."""
        with self.lock:
            found = self._find(participant)
            booking = self.bookings[found.booking_id]
            booking.participants.remove(found)
            self._stamp(self.bookings, booking)
            return found

    def delete_booking(self, booking_id: str | None = None) -> Booking:
        """The booking vanishes altogether."""
        with self.lock:
            booking = self._one(self.bookings, booking_id)
            return self._changed(self.bookings.remove(booking.id))

    def touch_silently(self, booking_id: str | None = None) -> Booking:
        """Change the price WITHOUT moving `updated`: only a full walk can see it."""
        with self.lock:
            booking = self._one(self.bookings, booking_id)
            booking.price += Decimal("0.01")
            return self._changed(booking)

    def bulk_update(self, n: int, account: str | None = None) -> list[Booking]:
        """A series is edited at once: the price of n bookings changes, and all carry the same second."""
        with self.lock:
            rows = self.bookings.rows(account)
            chosen = self.rng.sample(rows, min(n, len(rows)))
            second = self.clock.ms() // 1000 * 1000
            if len(chosen) > 500:
                self.bookings.loosen()
            for booking in chosen:
                booking.price += 1
                self.bookings.set_updated(booking, max(booking.updated, second))
                self._changed(booking)
            return chosen

    # ---- events and accounts -----------------------------------------------------------------------------------------------------

    def add_event(self, account: str | None = None, **values: object) -> Event:
        """A new event in the coming months; `values` set fields of `Event`."""
        with self.lock:
            shop, now = self._one(self.accounts, account), self.clock.ms()
            start = (now + self.rng.randint(2 * DAY, 90 * DAY)) // (15 * MINUTE) * 15 * MINUTE
            event = self.maker.event(shop, start, now)
            _set(event, values)
            self.events.add(event)
            return self._changed(event)

    def change_event(self, event_id: str | None = None, **values: object) -> Event:
        """Change fields of `Event`; with none given, the spaces taken."""
        with self.lock:
            event = self._one(self.events, event_id)
            _set(event, values or {"spaces_taken": self.rng.randint(0, event.capacity)})
            return self._stamp(self.events, event)

    def delete_event(self, event_id: str | None = None) -> Event:
        """The event vanishes; bookings still name the id."""
        with self.lock:
            event = self._one(self.events, event_id)
            return self._changed(self.events.remove(event.id))

    def add_account(self, customers: int = 20, bookings: int = 50, events: int = 2) -> Account:
        """A further shop appears, with a history whose `created` and `updated` lie in the past."""
        with self.lock:
            account = self._new_account()
            self._old_customers(account, customers)
            self._old_events(account, events)
            self._old_bookings(account, bookings)
            return self._changed(account)

    # ---- mixtures ----------------------------------------------------------------------------------------------------------------

    def mutate(self, n: int, rng: Random | None = None, kinds: Sequence[str] | None = None) -> dict[str, int]:
        """Play n changes at random; counts by kind. `kinds` limits the choice, and is how those of `APART` are asked for."""
        with self.lock:
            own, own_maker = self.rng, self.maker.rng
            self.rng = self.maker.rng = rng or own
            done: Counter[str] = Counter()
            names = list(kinds or MIXTURE)
            weights = [MIXTURE.get(name, 3) for name in names]
            try:
                for _ in range(n):
                    name = self.rng.choices(names, weights)[0]
                    try:
                        self._play(name)
                    except LookupError:
                        continue  # nothing left of that kind
                    done[name] += 1
            finally:
                self.rng, self.maker.rng = own, own_maker
            return dict(done)

    def _play(self, name: str) -> None:
        if name == "bulk_update":
            self.bulk_update(self.rng.randint(2, 150), self._one(self.accounts, None).id)
        elif name in ("hide_account", "show_account"):
            client = next(iter(self.clients))
            getattr(self, name)(client, self._one(self.accounts, None).id)
        elif name in MIXTURE or name == "touch_silently":
            getattr(self, name)()
        else:
            raise ValueError(f"no such mutation: {name}")

    def live_a_day(self) -> dict[str, int]:
        """A believable day in proportion to the size of the world. The clock ends 24 hours later; counts by kind."""
        with self.lock:
            size = max(len(self.bookings) // 500, 1)
            plan = ["add_booking"] * (4 * size) + ["add_customer"] * (2 * size) + ["change_customer"] * size
            plan += ["reschedule_booking", "cancel_booking", "mark_no_show", "complete", "complete"] * size
            plan += ["remove_participant", "delete_customer", "change_event", "forgive_no_show"]
            self.rng.shuffle(plan)
            pause = timedelta(days=1) / (len(plan) + 1)
            done: Counter[str] = Counter()
            for name in plan:
                self.clock.advance(pause)
                done.update(self.mutate(1, kinds=[name]))
            self.clock.advance(timedelta(days=1) - pause * len(plan))
            return dict(done)


def _set(record: Record, values: dict[str, object] | object) -> None:
    if not isinstance(values, dict):
        return
    for name, value in values.items():
        if name not in record.__slots__:
            raise AttributeError(f"{type(record).__name__} has no field {name}")
        setattr(record, name, value)

"""The world at rest: its tables, clock, lock, API clients and tokens, and how it is first filled. Changes live in `mutations`."""

import gc
from datetime import datetime
from random import Random
from threading import RLock

from .clock import START, Clock, from_ms, to_ms
from .entities import Account, ApiClient, Booking, Customer, Event, IntentEvent, Resource, Service
from .generation import DAY, MINUTE, Maker
from .switches import Switches
from .tables import Table


class State:
    """Everything the API could tell. The lock is held by every mutation and by every request being answered."""

    def __init__(
        self,
        seed: int = 1,
        accounts: int = 4,
        customers: int = 1000,
        bookings: int = 2500,
        events: int = 60,
        now: datetime | None = None,
        years: float = 3,
        time_zones: bool = True,
    ) -> None:
        self.lock = RLock()
        self.clock = Clock(now or START)
        self.switches = Switches()
        self.rng = Random(seed)
        self.maker = Maker(self.rng)
        self.accounts: Table[Account] = Table()
        self.customers: Table[Customer] = Table()
        self.bookings: Table[Booking] = Table()
        self.events: Table[Event] = Table()
        self.intent_events: Table[IntentEvent] = Table()
        self.services: dict[str, Service] = {}
        self.resources: dict[str, Resource] = {}
        self.clients: dict[str, ApiClient] = {"emu-client": ApiClient("emu-secret")}
        self.tokens: dict[str, tuple[str, int]] = {}
        self.version = 0  # counts every change, so that nothing derived from the world is used stale
        self._years = years
        self._time_zones = time_zones
        # A million live objects make every pass of the collector slow, and none of them is garbage.
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._fill(accounts, customers, bookings, events)
        finally:
            if collecting:
                gc.enable()

    # ---- filling -----------------------------------------------------------------------------------------------------------------

    def _past(self) -> int:
        """An instant within the years before now, to the millisecond, and long enough ago to be past."""
        now = self.clock.ms()
        return now - self.rng.randint(MINUTE * 5, int(self._years * 365 * DAY))

    def _updated(self, created: int) -> int:
        """A last change: none for half the records, else whole seconds up to some weeks after creation."""
        now = self.clock.ms()
        if self.rng.random() < 0.5 or now - created < 2000:
            return created
        later = min(created + self.rng.randint(1000, 40 * DAY), now - 1000)
        return max(created, later // 1000 * 1000)

    def _new_account(self) -> Account:
        created = self.clock.ms() - int((self._years + 1) * 365) * DAY + len(self.accounts) * DAY
        account = self.maker.account(len(self.accounts), created, self._time_zones)
        self.services.update((one.id, one) for one in account.services)
        self.resources.update((one.id, one) for one in account.resources)
        self.accounts.add(account)
        return account

    def _old_customers(self, account: Account, count: int) -> None:
        made = []
        for _ in range(count):
            created = self._past()
            person = self.maker.person()
            if self._people and self.rng.random() < 0.03:
                person = self.rng.choice(self._people)
            elif len(self._people) < 5000:
                self._people.append(person)
            made.append(self.maker.customer(account, created, self._updated(created), person))
        self.customers.load(made)

    def _old_events(self, account: Account, count: int) -> None:
        made = []
        for _ in range(count):
            start = (self._past() + 42 * DAY) // (15 * MINUTE) * 15 * MINUTE
            created = min(start, self.clock.ms()) - self.rng.randint(DAY, 60 * DAY)
            event = self.maker.event(account, start, created)
            event.updated = self._updated(created)
            made.append(event)
        self.events.load(made)

    def _old_bookings(self, account: Account, count: int) -> None:
        rng, now = self.rng, self.clock.ms()
        customers, events = self.customers.rows(account.id), self.events.rows(account.id)
        ahead = 42 * DAY
        made: list[Booking] = []
        intents: list[IntentEvent] = []
        second = 0
        for _ in range(count):
            start = (self._past() + ahead) // (15 * MINUTE) * 15 * MINUTE
            created = min(start, now) - rng.randint(MINUTE, 45 * DAY)
            booking = self.maker.booking(account, customers, events, start, created, now)
            created = booking.created
            booking.updated = self._updated(created)
            if second >= created and rng.random() < 0.1:
                booking.updated = second  # a series changed at once: many rows of one second
            elif booking.updated != created:
                second = booking.updated
            if booking.participants and booking.end < now and rng.random() < 0.02:
                intents.append(self.maker.intent_event(booking, booking.participants[0]))
            made.append(booking)
        self.bookings.load(made)
        self.intent_events.load(intents)

    def _fill(self, accounts: int, customers: int, bookings: int, events: int) -> None:
        self._people: list[tuple[str, str, str]] = []
        shops = [self._new_account() for _ in range(accounts)]
        weights = [1 / (number + 1) for number in range(accounts)]  # a few large shops, many small ones
        for total, fill in (
            (customers, self._old_customers),
            (events, self._old_events),
            (bookings, self._old_bookings),
        ):
            left, weight_left = total, sum(weights)
            for shop, weight in zip(shops, weights, strict=True):
                share = min(left, round(left * weight / weight_left)) if shop is not shops[-1] else left
                left -= share
                weight_left -= weight
                fill(shop, share)

    # ---- API clients -------------------------------------------------------------------------------------------------------------

    def add_client(self, client_id: str, secret: str, accounts: set[str] | None = None) -> ApiClient:
        """A further API client; `accounts` None means all accounts, those to come included."""
        with self.lock:
            self.clients[client_id] = client = ApiClient(secret, set(accounts) if accounts is not None else None)
            self.version += 1
            return client

    def revoke_client(self, client_id: str = "emu-client") -> None:
        """Delete the client in the back office: no new tokens, and its tokens die."""
        with self.lock:
            self.clients[client_id].revoked = True

    def revoke_tokens(self) -> None:
        """All tokens die at once; new ones can be had."""
        with self.lock:
            self.tokens.clear()

    def hide_account(self, client_id: str, account_id: str) -> None:
        """The client's creator loses the admin rights on an account: its rows vanish for this client alone."""
        with self.lock:
            self.clients[client_id].hidden.add(account_id)
            self.version += 1

    def show_account(self, client_id: str, account_id: str) -> None:
        """The admin rights return."""
        with self.lock:
            self.clients[client_id].hidden.discard(account_id)
            self.version += 1

    def visible_accounts(self, client_id: str) -> set[str] | None:
        """Ids of the accounts a client can see; None when it sees all there are."""
        client = self.clients[client_id]
        if client.accounts is None and not client.hidden:
            return None
        chosen = {account.id for account in self.accounts} if client.accounts is None else client.accounts
        return {account_id for account_id in chosen if account_id in self.accounts} - client.hidden

    def counts(self) -> dict[str, int]:
        """How many records live, by collection."""
        with self.lock:
            return {
                "accounts": len(self.accounts),
                "customers": len(self.customers),
                "bookings": len(self.bookings),
                "booking_customers": sum(len(booking.participants) for booking in self.bookings),
                "events": len(self.events),
                "intent_events": len(self.intent_events),
            }

    @property
    def secrets(self) -> list[str]:
        """The canary tokens inside the links of all live participants: none may turn up in a warehouse or a log."""
        with self.lock:
            return [one.secret for booking in self.bookings for one in booking.participants]

    @property
    def now(self) -> datetime:
        """The present instant of the world."""
        return from_ms(to_ms(self.clock.now()))

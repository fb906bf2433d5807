"""The world behind the emulator: state (`state`), changes (`mutations`) and truth (`truth`) under one name. No HTTP."""

from collections.abc import Collection

from .mutations import Mutations
from .truth import Tables, Truth


class World(Mutations):
    """A business on Appointedd, wholly determined by its arguments; see `State`, `Mutations` for what it holds and can do."""

    def truth(self, accounts: Collection[str] | None = None, visible_to: str | None = None) -> Tables:
        """What a perfect warehouse would hold for live rows now; for some accounts, or for those an API client can see.

        Rows are keyed by the columns of sql/schema/001_core.sql without bookkeeping. Values: str, bool, int, Decimal, aware UTC
        datetime, date, None; `value_raw` and `price_points` are plain Python values with Decimal for fractions.
        """
        with self.lock:
            seen = {account.id for account in self.accounts}
            if accounts is not None:
                seen &= set(accounts)
            if visible_to is not None:
                visible = self.visible_accounts(visible_to)
                seen &= seen if visible is None else visible
            truth = Truth(self.switches, self.services)
            for account in self.accounts.rows():
                if account.id in seen:
                    truth.account(account)
            for customer in self.customers.rows():
                if customer.account_id in seen:
                    truth.customer(customer)
            for booking in self.bookings.rows():
                if booking.account_id in seen:
                    truth.booking(booking)
            for event in self.events.rows():
                if event.account_id in seen:
                    truth.event(event)
            return truth.shown()

"""The time zone of each account: the setting, else what the API sends, else none; and what follows when it changes.

What lives here: choosing and warning. What does not: using a zone (`normalise`, the marts). Nothing is guessed: an account without a zone keeps
epoch dates unread, and its local days use `SYNC_TIME_ZONE` with `is_zone_assumed` (evidence 5.13, 5.14).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipelines.renormalise import renormalise_stream
from pipelines.streams import CUSTOMERS, shape_of
from resources.contract import Contract
from resources.settings import Settings
from resources.warehouse import Writer


def choose(account_id: str, slug: str | None, sent: str | None, wanted: dict[str, str]) -> tuple[str | None, str]:
    """Zone and where it is from: `setting` (by id, then by slug), `api` or `none`."""
    for name in (account_id, slug):
        if name is not None and name in wanted:
            return wanted[name], "setting"
    return (sent, "api") if sent else (None, "none")


def nobody_has_seen(names: Sequence[str]) -> str:
    """The sentence for names in `SYNC_ACCOUNT_TIME_ZONES` that are no account."""
    return f"SYNC_ACCOUNT_TIME_ZONES names accounts that nobody has seen: {', '.join(names)}."


def account_zones(writer: Writer, settings: Settings, contract: Contract, warnings: list[str]) -> dict[str, str]:
    """Zones in use, by account, written to `ops.account_time_zones`; accounts without one are told in `warnings`.

    Where an account's zone is not what it was, its customers' epoch dates are read again from the stored documents.
    """
    accounts = writer.accounts()
    chosen = [(a, *choose(a, slug, sent, settings.sync_account_time_zones)) for a, slug, sent in accounts]
    frame = pl.DataFrame(
        [(a, zone, source, zone or settings.sync_time_zone, zone is None) for a, zone, source in chosen],
        schema={
            "account_id": pl.String(),
            "time_zone": pl.String(),
            "source": pl.String(),
            "reporting_time_zone": pl.String(),
            "is_zone_assumed": pl.Boolean(),
        },
        orient="row",
    )
    changed = writer.changed_time_zones(frame)
    zones = {a: zone for a, zone, _ in chosen if zone is not None}
    if changed:
        # Before the zones are written down: a run that is killed in between finds them changed again, and reads the rest.
        read, _ = renormalise_stream(writer, CUSTOMERS, contract, zones, set(changed))
        writer.note_shape(CUSTOMERS.name, shape_of(CUSTOMERS, contract), of_all_rows=False)
        warnings.append(
            f"The time zone of {len(changed)} accounts changed; the dates of {read} customers were read again."
        )
    writer.set_time_zones(frame)
    without = sorted(slug or a for a, slug, _ in accounts if a not in zones)
    if without:
        shown = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
        warnings.append(
            f"No time zone is known for {shown}: epoch dates stay empty and local days use SYNC_TIME_ZONE={settings.sync_time_zone}. "
            f'Set SYNC_ACCOUNT_TIME_ZONES, such as {{"{without[0]}": "Europe/London"}}.'
        )
    known = {name for a, slug, _ in accounts for name in (a, slug)}
    strangers = sorted(set(settings.sync_account_time_zones) - known)
    if strangers:
        warnings.append(nobody_has_seen(strangers))
    return zones

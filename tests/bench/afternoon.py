"""The script of one afternoon: what a competent engineer writes to get these four lists into DuckDB, first whole, then by `updated`.

One request at a time, one table for each list, nested parts as JSON text, INSERT OR REPLACE by id. It waits as a 429 says and repeats a server error three
times. It has no child tables, no history, no tombstones, no check that a walk is complete. Only httpx, polars and duckdb; it runs in the peers' environment:

    python afternoon.py FILE        with BASE_URL, TOKEN_URL, CLIENT_ID and CLIENT_SECRET in the environment
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import duckdb
import httpx
import polars as pl

PAGES_PER_INSERT = 20
LISTS = {
    "accounts": "",
    "customers": "updated",
    "bookings": "updated",
    "events": "updated",
}  # with what each is sorted by


class Api:
    """The API, one request after the other."""

    def __init__(self) -> None:
        self.http = httpx.Client(timeout=60)
        self.base_url = os.environ["BASE_URL"]
        self.log_in()

    def log_in(self) -> None:
        answer = self.http.post(
            os.environ["TOKEN_URL"],
            data={"grant_type": "client_credentials"},
            auth=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
        )
        answer.raise_for_status()
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, url: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        failures = 0
        while True:
            answer = self.http.get(url, params=params)
            if answer.status_code == 429:
                time.sleep(float(answer.headers.get("Retry-After", "1")))
            elif answer.status_code == 401 and failures < 3:
                failures += 1
                self.log_in()
            elif answer.status_code >= 500 and failures < 3:
                failures += 1
                time.sleep(failures)
            else:
                answer.raise_for_status()
                document: dict[str, Any] = answer.json()
                return document

    def pages(self, name: str, since: datetime | None) -> Iterator[dict[str, Any]]:
        params = {"page[size]": "100"}
        if LISTS[name]:
            params["sort"] = LISTS[name]
        if name == "bookings":
            params["include"] = "customerBookings"
        if since is not None:
            params["filter[updatedAfter]"] = since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        page = self.get(f"{self.base_url}/{name}", params)
        while True:
            yield page
            if not (following := page["links"]["next"]):
                return
            page = self.get(following)


def rows_of(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Flat rows: attributes as they are, linked ids, anything nested as JSON text; participants with their booking."""
    included = {one["id"]: one for one in page.get("included", ())}
    for record in page["data"]:
        row: dict[str, Any] = {"id": record["id"]}
        for name, value in record["attributes"].items():
            row[name] = json.dumps(value) if isinstance(value, dict | list) else value
        for name, relation in record.get("relationships", {}).items():
            linked = relation["data"]
            if name == "customerBookings":
                row[name] = json.dumps([included[one["id"]]["attributes"] for one in linked])
            elif isinstance(linked, list):
                row[name] = json.dumps([one["id"] for one in linked])
            else:
                row[f"{name}_id"] = linked["id"] if linked else None
        yield row


def store(db: duckdb.DuckDBPyConnection, name: str, rows: list[dict[str, Any]]) -> None:
    """Some hundreds of rows into their table, which the first of them make."""
    if not rows:
        return
    frame = pl.DataFrame(rows, infer_schema_length=None)
    instants = [
        c for c in frame.columns if c in ("created", "updated", "startTime", "endTime", "startBuffer", "endBuffer")
    ]
    frame = frame.with_columns(pl.col(instants).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_zone="UTC"))
    # A column that was empty so far has no type yet.
    frame = frame.with_columns(pl.col(pl.Null).cast(pl.String))
    arrow = frame.to_arrow()
    db.register("incoming", arrow)
    columns = ", ".join(f'"{c}" {t}' for c, t, *_ in db.execute("describe incoming").fetchall())
    db.execute(f'create table if not exists {name} ({columns}, primary key ("id"))')
    db.execute(f"insert or replace into {name} by name select * from incoming")  # noqa: S608  names of this script
    db.unregister("incoming")


def main() -> None:
    """Everything where the file is new, else what changed since the newest row."""
    db = duckdb.connect(sys.argv[1])
    db.execute("set TimeZone = 'UTC'")
    tables = {name for (name,) in db.execute("select table_name from duckdb_tables()").fetchall()}
    api = Api()
    for name, sort in LISTS.items():
        since = None
        if sort and name in tables:
            (since,) = db.execute(f"select max(updated)::timestamp from {name}").fetchone() or (None,)  # noqa: S608  as above
        rows: list[dict[str, Any]] = []
        for number, page in enumerate(api.pages(name, since), 1):
            rows += rows_of(page)
            if number % PAGES_PER_INSERT == 0:
                store(db, name, rows)
                rows = []
        store(db, name, rows)
    db.close()


if __name__ == "__main__":
    main()

"""Records by id and in order: sorted lists that a page can be cut from at once, over all accounts and per account."""

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Generic, TypeVar

from .entities import Record

R = TypeVar("R", bound=Record)
Key = tuple[int, str]

_KEYS = ("updated", "created", "id")


def _key_function(name: str) -> Callable[[R], Key]:
    if name == "updated":
        return lambda record: (record.updated, record.id)
    if name == "created":
        return lambda record: (record.created, record.id)
    return lambda record: (0, record.id)


class Index(Generic[R]):
    """Records in ascending order of one key. A loosened index is put in order when it is next read, which is what makes bulk work cheap."""

    def __init__(self, name: str) -> None:
        self.key: Callable[[R], Key] = _key_function(name)
        self._rows: list[R] = []
        self._gone: set[str] = set()
        self.loose = False

    @property
    def rows(self) -> list[R]:
        """The records in order; not to be changed by the caller."""
        if self.loose:
            if self._gone:
                self._rows = [record for record in self._rows if record.id not in self._gone]
                self._gone.clear()
            self._rows.sort(key=self.key)
            self.loose = False
        return self._rows

    def extend(self, records: Iterable[R]) -> None:
        """Add many."""
        self._rows.extend(records)
        self.loose = True

    def add(self, record: R) -> None:
        """Add one."""
        if self.loose:
            if record.id in self._gone:  # it comes back before the rows were put in order
                self._gone.discard(record.id)
                self._rows = [row for row in self._rows if row.id != record.id]
            self._rows.append(record)
        else:
            insort(self._rows, record, key=self.key)

    def remove(self, record: R) -> None:
        """Take one out; it must still have the key it was added with."""
        if self.loose:
            self._gone.add(record.id)
        else:
            del self._rows[bisect_left(self._rows, self.key(record), key=self.key)]


class Table(Generic[R]):
    """All records of one collection."""

    def __init__(self) -> None:
        self._by_id: dict[str, R] = {}
        self._whole: dict[str, Index[R]] = {name: Index(name) for name in _KEYS}
        self._by_account: dict[str, dict[str, Index[R]]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[R]:
        return iter(self._by_id.values())

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._by_id

    def __getitem__(self, record_id: str) -> R:
        return self._by_id[record_id]

    def get(self, record_id: str) -> R | None:
        """The record of this id, if it lives."""
        return self._by_id.get(record_id)

    def index(self, name: str, account_id: str | None = None) -> Index[R]:
        """The order by `updated`, `created` or `id`, of everything or of one account."""
        return (self._whole if account_id is None else self._of_account(account_id))[name]

    @property
    def accounts(self) -> Collection[str]:
        """Ids of the accounts that ever had a record here."""
        return self._by_account.keys()

    def rows(self, account_id: str | None = None) -> list[R]:
        """All records by id, as a list that random choices can be made from."""
        return self.index("id", account_id).rows

    def _of_account(self, account_id: str) -> dict[str, Index[R]]:
        if account_id not in self._by_account:
            self._by_account[account_id] = {name: Index(name) for name in _KEYS}
        return self._by_account[account_id]

    def load(self, records: Iterable[R]) -> None:
        """Add many at once."""
        of_account: dict[str, list[R]] = {}
        everything: list[R] = []
        for record in records:
            self._by_id[record.id] = record
            everything.append(record)
            of_account.setdefault(record.account_id, []).append(record)
        for index in self._whole.values():
            index.extend(everything)
        for account_id, some in of_account.items():
            for index in self._of_account(account_id).values():
                index.extend(some)

    def add(self, record: R) -> None:
        """Add one."""
        self._by_id[record.id] = record
        for name in _KEYS:
            self._whole[name].add(record)
            self._of_account(record.account_id)[name].add(record)

    def remove(self, record_id: str) -> R:
        """Take one out for good."""
        record = self._by_id.pop(record_id)
        for name in _KEYS:
            self._whole[name].remove(record)
            self._of_account(record.account_id)[name].remove(record)
        return record

    def loosen(self) -> None:
        """Announce many changes of `updated`."""
        for indexes in (self._whole, *self._by_account.values()):
            indexes["updated"].loose = True

    def set_updated(self, record: R, updated: int) -> None:
        """Move a record to its new place in the order of changes."""
        both = (self._whole["updated"], self._of_account(record.account_id)["updated"])
        firm = [index for index in both if not index.loose]
        for index in firm:
            index.remove(record)
        record.updated = updated
        for index in firm:
            index.add(record)

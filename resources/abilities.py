"""What may be sent with each list: what the contract declares, less what this server has refused.

What lives here: abilities, the parameters that they are sent under, their values. What does not: asking, and what a refusal proves (`appointedd`).
"""

from __future__ import annotations

from resources.contract import Contract
from resources.errors import AbilityRefusedError

# Key of the contract's `parameters` → the ability that it is sent by.
ABILITIES = {
    "page_size": "page_size",
    "sort": "sort",
    "include": "include",
    "updated_since": "filters",
    "updated_until": "upper_bound",
    "account": "account_filter",
}


class Abilities:
    """What may be sent to one API. `without` holds the (stream, ability) pairs that its server refused; they are not tried again in this run."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.without: set[tuple[str, str]] = set()

    def do_without(self, refused: AbilityRefusedError) -> None:
        """Ask no more for what the server refused."""
        self.without.add((refused.stream, refused.ability))

    def has(self, stream: str, ability: str) -> bool:
        """Whether the contract declares an ability for a stream and this server has not refused it."""
        if (stream, ability) in self.without:
            return False
        abilities, parameters, of_stream = (
            self.contract.abilities,
            self.contract.parameters,
            self.contract.streams[stream],
        )
        match ability:
            case "account_filter":
                return of_stream.account_filter and bool(parameters.account)
            case "filters":
                return abilities.filters and of_stream.filters and bool(parameters.updated_since)
            case "upper_bound":
                return abilities.upper_bound and bool(parameters.updated_until) and self.has(stream, "filters")
            case "sort":
                return abilities.sort and bool(parameters.sort and of_stream.sort)
            case "include":
                return abilities.include and bool(parameters.include and of_stream.include)
            case _:
                return bool(getattr(abilities, ability)) and bool(getattr(parameters, ability, True))

    def optional(self, stream: str) -> dict[str, str]:
        """The query parameters that every list of a stream is asked with, beside those of a window or account."""
        parameters, of_stream = self.contract.parameters, self.contract.streams[stream]
        query = {}
        if self.has(stream, "page_size"):
            query[parameters.page_size] = parameters.page_size_value
        if self.has(stream, "sort"):
            query[parameters.sort] = of_stream.sort
        return query | self.included(stream)

    def included(self, stream: str) -> dict[str, str]:
        """The query parameter by which a stream's records come with those that belong to them; empty where there is none."""
        names = self.contract.streams[stream].include
        return {self.contract.parameters.include: ",".join(names)} if self.has(stream, "include") else {}

    def ability_of(self, parameter: str) -> str | None:
        """The ability that a query parameter is sent by; None for one that is always sent."""
        parameters = self.contract.parameters
        return {getattr(parameters, key): ability for key, ability in ABILITIES.items()}.get(parameter)

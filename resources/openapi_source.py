"""The text of an OpenAPI file: from a path or an address, JSON or YAML, as plain values.

What lives here: fetching and decoding; no address but https (or this machine), no secret is sent. What does not: what the values mean (`openapi`).
Errors: `UsageError` with the source and the cure, whatever stands in it.
"""

from __future__ import annotations

import json
import re
from http.client import HTTPException, IncompleteRead
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import yaml

from resources.errors import UsageError

MOST_BYTES = 30_000_000
# More than any API is described with, and no more than can be gone through. A few lines of YAML whose aliases repeat one another stand for billions.
MOST_VALUES = 5_000_000
TIMEOUT_S = 60.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def text_of(source: str) -> tuple[str, str]:
    """The file's text, and the address that relative ones in it start from."""
    if not re.match(r"https?://", source, re.IGNORECASE):
        try:
            return Path(source).read_text(encoding="utf-8-sig"), ""
        except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError, and so is a NUL in the path
            told = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"{source} cannot be read: {told}. Give the path or the https address of it.") from None
    _must_be_safe(source)
    request = Request(source, headers={"User-Agent": "appointedd-warehouse"})  # noqa: S310  http(s) only, see above
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  as above; no secret is sent
            _must_be_safe(answer.url)
            body = answer.read(MOST_BYTES + 1)
            base, kind = answer.url, answer.headers.get_content_type()
            # http.client tells of a body that was cut short only where all of it is asked for; half a YAML file may well be one.
            if answer.length and len(body) <= MOST_BYTES:
                raise IncompleteRead(body, answer.length)
    # URLError is an OSError; what http.client says of ports, broken answers and cut bodies is none.
    except (OSError, ValueError, HTTPException) as error:
        told = str(error) or type(error).__name__
        raise UsageError(f"{source} cannot be fetched: {told}. Save the file and give its path.") from None
    if len(body) > MOST_BYTES:
        raise UsageError(f"{source} is longer than {MOST_BYTES:,} bytes, which no OpenAPI file of this API is.")
    try:
        return body.decode("utf-8-sig"), base
    except UnicodeDecodeError:
        raise UsageError(
            f"{source} answers with {kind} that is not UTF-8 text. Save the OpenAPI file itself and give its path."
        ) from None


def _must_be_safe(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # raises ValueError where it is no number, or too large a one
    except ValueError as error:
        raise UsageError(f"{url} is no address: {error}. Correct it, or save the file and give its path.") from None
    if parts.scheme != "https" and host not in LOOPBACK:
        raise UsageError(f"{url} is plain http, which is accepted for this machine only; use https, or give a file.")


def value_of_text(text: str, source: str) -> dict[str, Any]:
    """JSON or YAML as an object."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        try:
            value = _of_yaml(text, source)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f" (line {mark.line + 1})" if mark is not None else ""
            raise UsageError(
                f"{source} is neither JSON nor YAML{place}; is it a web page instead of the file, or holds it a date that does not exist?"
            ) from None
    except (RecursionError, ValueError):
        raise UsageError(f"{source} holds a nesting or a number beyond all measure.") from None
    if not isinstance(value, dict):
        raise UsageError(f"{source} holds no object, so it is no OpenAPI file; is it a web page instead?")
    return value


def _of_yaml(text: str, source: str) -> object:
    """YAML's value, as `yaml.safe_load` gives it, which would write out merged mappings whatever their number."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is not None and _size(node, {}) > MOST_VALUES:
            raise UsageError(
                f"{source} holds more than {MOST_VALUES:,} values, since its YAML aliases repeat one another over and over. Give it without them, or as JSON."
            )
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, itself included. One with an alias is the same in many places, and whoever writes it out meets it in each."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 1  # in itself, where it holds itself
        inner = node.value if isinstance(node, yaml.SequenceNode) else chain.from_iterable(node.value)
        known[id(node)] += sum(_size(one, known) for one in inner)
    return known[id(node)]

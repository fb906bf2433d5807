"""An emulator of Appointedd's public API V2, built from its evidence file: a seeded world, served over HTTP in many dialects.

It shares no code with the product, so the two can only agree through the contract.
"""

from .chaos import random_rules
from .emulator import Emulator
from .faults import Action, Delay, Drip, Fault, HangUp, Replace, Reset, SetHeaders, Status, Truncate, later_page, on
from .messages import Logged, Request, Response
from .switches import ORGANISATIONS, Naming, Switches
from .world import World

__all__ = [
    "ORGANISATIONS",
    "Action",
    "Delay",
    "Drip",
    "Emulator",
    "Fault",
    "HangUp",
    "Logged",
    "Naming",
    "Replace",
    "Request",
    "Reset",
    "Response",
    "SetHeaders",
    "Status",
    "Switches",
    "Truncate",
    "World",
    "later_page",
    "on",
    "random_rules",
]

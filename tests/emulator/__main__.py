"""Runs the emulator by hand: `python -m tests.emulator --port 8080 --seed 1 --accounts 5 --customers 2000 --bookings 4980`."""

import argparse
import shlex
import threading
from datetime import UTC, datetime

from .emulator import Emulator
from .world import World


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.emulator", description="Emulates Appointedd's API V2.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 chooses a free one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--accounts", type=int, default=5)
    parser.add_argument("--customers", type=int, default=2000)
    parser.add_argument("--bookings", type=int, default=4980)
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--years", type=float, default=3)
    parser.add_argument(
        "--now",
        type=datetime.fromisoformat,
        help="start of the world clock, ISO 8601 with offset; default: the real time",
    )
    parser.add_argument("--live", action="store_true", help="the world changes a little every few seconds")
    parser.add_argument(
        "--every", type=float, default=3.0, metavar="SECONDS", help="pause between the changes of --live"
    )
    return parser.parse_args()


def main() -> None:
    """Serve until Ctrl-C."""
    given = _arguments()
    world = World(
        seed=given.seed,
        accounts=given.accounts,
        customers=given.customers,
        bookings=given.bookings,
        events=given.events,
        now=given.now or datetime.now(UTC),
        years=given.years,
    )
    world.clock.run()  # a person at the keyboard expects time to pass
    with Emulator(world, host=given.host, port=given.port) as emulator:
        print("Base URL      ", emulator.base_url)
        print("Token URL     ", emulator.token_url)
        print("Client id     ", emulator.client_id)
        print("Client secret ", emulator.client_secret)
        print("Records       ", ", ".join(f"{count} {name}" for name, count in world.counts().items()))
        print()
        for name, value in emulator.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        print("\nCtrl-C ends it.", flush=True)
        pause = threading.Event()
        try:
            while not pause.wait(given.every):
                if given.live:
                    print(f"{world.now:%H:%M:%S}", world.mutate(5), flush=True)
        except KeyboardInterrupt:
            print("\nEnded.")


if __name__ == "__main__":
    main()

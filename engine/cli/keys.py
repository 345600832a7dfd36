"""`python -m engine keys`: who an engine is to other machines, and which of their clients it lets in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.errors import EditError
from engine.service import accounts
from engine.service.shares import YOURSELF, Allowed, allow, listed
from protocol import endpoint
from protocol.errors import ProtocolError
from protocol.keys import load_or_make, parse, shown


def main(argv: Sequence[str]) -> int:
    """Make, list, add and revoke keys; a running engine goes by the new list from the next message on."""
    home = argparse.ArgumentParser(add_help=False)
    home.add_argument("--home", type=Path, default=endpoint.default_home(), help="the engine's folder (%(default)s)")
    parser = argparse.ArgumentParser(
        prog="python -m engine keys", description="Say which other machines' clients may connect.", parents=[home]
    )
    parser.set_defaults(run=show)
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, run, meaning: str) -> argparse.ArgumentParser:
        result = commands.add_parser(name, help=meaning, description=meaning, parents=[home])
        result.set_defaults(run=run)
        return result

    command("list", show, "print this engine's own key and the clients that it lets in")
    adding = command("add", add, "let a client in")
    adding.add_argument("name", help="whom the key belongs to, such as ada@laptop")
    adding.add_argument("key", help="the client's public key, which the add-on's preferences show")
    making = command("make", make, "make a pair of keys for a client that has none, and let it in")
    making.add_argument("name")
    making.add_argument("file", type=Path, help="for the pair; its holder can use the engine, so carry it safely")
    revoking = command("revoke", revoke, "let a client in no longer")
    revoking.add_argument("name")
    sharing = command("share", share, f"say what a client may have of the workers ({YOURSELF}: your own programs)")
    sharing.add_argument("name")
    sharing.add_argument("share", type=float, help="of the workers' time, in relation to others' shares; usual is 1")
    sharing.add_argument("--workers", type=int, default=0, metavar="N", help="at a time, at most (any number)")
    options = parser.parse_args(argv)
    try:
        options.run(options)
    except (EditError, ProtocolError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def show(options: argparse.Namespace) -> None:
    print(f"This engine's key: {own_key(options.home)}")
    clients = accounts.listed(options.home)
    print("Clients that are let in:" if clients else "No client of another machine is let in.")
    for name, key in sorted(clients.items()):
        print(f"  {name:24} {shown(key)}")
    for name, allowed in sorted(listed(options.home).items()):
        print(f"  {name:24} share {allowed.share:g}, workers at a time: {allowed.workers or 'any'}")


def add(options: argparse.Namespace) -> None:
    accounts.add(options.home, options.name, parse(options.key))
    print(f"{options.name} is let in. This engine's key: {own_key(options.home)}")


def make(options: argparse.Namespace) -> None:
    if options.file.exists():
        raise EditError("file-exists", f"There is a file {options.file} already.", "Name another one.")
    pair = load_or_make(options.file)
    try:
        accounts.add(options.home, options.name, pair.public)
    except BaseException:  # nobody is let in with it
        options.file.unlink()
        raise
    print(f"The keys of {options.name} are in {options.file}; their public half is {shown(pair.public)}.")


def revoke(options: argparse.Namespace) -> None:
    accounts.revoke(options.home, options.name)
    print(f"{options.name} is let in no longer.")


def share(options: argparse.Namespace) -> None:
    allow(options.home, options.name, Allowed(options.share, options.workers))
    most = f"{options.workers} workers" if options.workers else "any number of workers"
    print(f"{options.name} has a share of {options.share:g}, and {most} at a time.")


def own_key(home: Path) -> str:
    """Who this engine is, as its clients must know it."""
    return shown(load_or_make(home / accounts.SERVER_KEY_NAME).public)

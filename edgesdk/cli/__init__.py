"""The command line: `edgesdk <noun> <verb>`; each command is a small module, imported on use."""

from edgesdk.cli.main import Command, main

__all__ = ["Command", "main"]

"""`python -m sandbox` is `sandbox`."""

from sandbox.commands.cli import main

main(prog_name="sandbox")

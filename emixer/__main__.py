"""`python -m emixer` is the `emixer` command."""

from emixer.cli.main import main

if __name__ == "__main__":
    main(prog_name="emixer")

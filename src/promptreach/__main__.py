"""``promptreach`` and ``python -m promptreach``: Ctrl-C ends with 130 also while the command line is still imported."""


def main() -> None:
    """The entry point of the console script."""
    try:
        from promptreach.cli import main as command_line

        command_line()
    except KeyboardInterrupt:  # within a command it is told what is left; here nothing has begun
        import sys

        print("\nStopped.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()

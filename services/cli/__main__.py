"""`python -m services.cli`: what `./leads` runs."""

import sys

EXIT_INTERRUPTED = 130

if __name__ == "__main__":
    try:
        from services.cli.main import main

        main()
    except KeyboardInterrupt:  # Ctrl-C before the supervisor listens for it: nothing is running yet
        sys.exit(EXIT_INTERRUPTED)

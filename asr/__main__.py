"""`python -m asr`: the commands, and what each does."""

import sys

from asr.cli.commands import main

sys.exit(main())

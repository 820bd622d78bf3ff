"""`python -m kbert`, which is the `kbert` command."""

import sys

from kbert.commands.cli import main

sys.exit(main())
